"""Flaws of theory/hessian.md."""

import numpy as np

from support.flaws import Flaw, after, errors, features, field, larger, smaller
from support.snapshots import seen

ASSEMBLED = "refspec.hessian.assembly:assembled"
PRODUCTS = "refspec.hessian.assembly:hessian_vector_product"


def smooth():
    return seen(1, kinds=("tanh", "tanh"), hidden=(3, 2))


def bent():
    return seen(1, kinds=("relu",), hidden=(3,))


def no_hidden_layer():
    """A softmax regression: the Hessian is its Fisher matrix."""
    return seen(1, kinds=(), hidden=())


def with_residual(change):
    """Change the errors that a residual is seeded with."""

    def wrong(right, size):
        def seed(steps, f, labels, part, weights):
            steps, curvature, errors = right(steps, f, labels, part, weights)
            mine = part == "residual"
            return steps, curvature, change(errors, size) if mine else errors

        return seed

    return wrong


def uneven(right, size):
    """Spoil the last of the numbers that are mirrored."""

    def mirror(H, edges, xp):
        right(H, edges, xp)
        H[-1, 0] *= 1 + size

    return mirror


def with_diagonal(H, size):
    """Add a little to the diagonal, also where it is 0."""
    return H + size * np.max(np.abs(H)) * np.eye(len(H))


def part_of_fisher(right, size):
    """Give a part of the Fisher matrix in place of a residual of 0."""

    def hessian(*args, part="hessian", **options):
        if part == "residual":
            return size * right(*args, part="fisher", **options)
        return right(*args, part=part, **options)

    return hessian


def turned(H, size):
    """Turn eigenvectors by a small angle in a plane: eigenvalues stay."""
    Q, (c, s) = np.eye(len(H)), (np.cos(size), np.sin(size))
    Q[:2, :2] = [[c, -s], [s, c]]
    return Q @ H @ Q.T


def but_the_bias(change):
    """Change features but the constant one."""
    return lambda h, size: np.concatenate(
        [change(h[..., :-1], size), h[..., -1:]], axis=2
    )


def to_another(p, size):
    """Move a little of the second label's probability to the first."""
    more = size * p[:, 1:2]
    return np.concatenate([p[:, :1] + more, p[:, 1:2] - more, p[:, 2:]], axis=1)


FLAWS = (
    Flaw(
        "H1",
        "a residual too large",
        "refspec.hessian.assembly:seed",
        with_residual(larger),
        smooth,
    ),
    Flaw("H1", "errors too large", "data", errors(larger), smooth),
    Flaw("H2", "products too large", PRODUCTS, after(larger), smooth),
    Flaw("H3", "products too small", PRODUCTS, after(smaller), smooth),
    Flaw("H4", "a last bit", "refspec.hessian.assembly:_mirror", uneven, smooth),
    Flaw("H5", "a diagonal", ASSEMBLED, after(with_diagonal), bent),
    Flaw("H6", "products too large", PRODUCTS, after(larger), smooth),
    Flaw("H6", "errors too large", "data", errors(larger), smooth),
    Flaw("H7", "products too large", PRODUCTS, after(larger), smooth),
    Flaw(
        "H8",
        "a part of the Fisher matrix as residual",
        "refspec.hessian.assembly:hessian",
        part_of_fisher,
        smooth,
    ),
    Flaw("H9", "a Hessian too large", ASSEMBLED, after(larger), no_hidden_layer),
    Flaw("H9", "eigenvectors turned", ASSEMBLED, after(turned), no_hidden_layer),
    Flaw("H9", "errors too large", "data", errors(larger), no_hidden_layer),
    Flaw("H10", "features too large", "data", features(but_the_bias(larger)), smooth),
    Flaw("H10", "errors too small", "data", errors(smaller), smooth),
    Flaw(
        "H10", "probabilities moved", "data", field("probabilities", to_another), smooth
    ),
    Flaw(
        "H11",
        "ends too large",
        "refspec.krylov:leading",
        after(field("values", larger)),
        smooth,
    ),
)
REASONS: dict[str, str] = {}
