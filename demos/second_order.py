"""A second-order step: a layer's gradient through a damped inverse of its curvature.

One running average of class factors serves all three methods, so that they differ in
the operator alone: KFAC is the product of the factors' means, EKFAC that product's
eigenvectors with running variances, CFAC the sum of the classes' products.
"""

from dataclasses import dataclass

from refspec import backend
from refspec.kronecker import (
    ClassFactors,
    KroneckerBasis,
    class_factors,
    damped_inverse,
    damped_solve,
    factored_tikhonov,
    moments,
)
from refspec.kronecker.classwise import running_average
from refspec.kronecker.eigenbasis import diagonalised

#: The operators that a step can be preconditioned with.
METHODS = ("kfac", "ekfac", "cfac")


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """Running averages of a layer: of every class seen, and EKFAC for EKFAC only."""

    factors: ClassFactors
    ekfac: KroneckerBasis | None = None


def observe(layer, labels, probabilities, *, method, old=None, decay=0.95):
    """Return the averages once a batch, sorted by class, is taken in.

    EKFAC's variances are carried over to the new eigenvectors: along Q (x) R the old
    operator has (Q'Q_old)^2 S (R_old'R)^2, squares by entries.
    """
    _expect_method(method)
    xp, N = backend.namespace(probabilities), probabilities.shape[0]
    s = xp.full_like(probabilities[:, 0], 1 / N)
    factors = class_factors(layer, labels, probabilities, s)
    if old is not None:
        factors = running_average(old.factors, factors, decay)
    if method != "ekfac":
        return Curvature(factors)
    basis = diagonalised(factors.kfac())
    Q, R = basis.left, basis.right
    values = moments.variances(
        layer.errors @ Q, layer.features @ R, s[:, None] * probabilities, xp
    )
    if old is not None and old.ekfac is not None:
        left = (xp.matrix_transpose(Q) @ old.ekfac.left) ** 2
        right = (xp.matrix_transpose(old.ekfac.right) @ R) ** 2
        values = decay * (left @ old.ekfac.values @ right) + (1 - decay) * values
    return Curvature(factors, KroneckerBasis(Q, R, values))


def inverse(curvature, method, damping, *, iterations=10):
    """Return the map from a gradient (b, a) to a preconditioned one.

    KFAC with the damping split over its factors, EKFAC in its basis, CFAC by conjugate
    gradients that KFAC preconditions. Decompositions are made here, once.
    """
    _expect_method(method)
    if method == "ekfac":
        if curvature.ekfac is None:
            raise ValueError(
                "EKFAC must have been observed with method 'ekfac', got factors only; "
                "pass method='ekfac' to observe"
            )
        basis = damped_inverse(curvature.ekfac, damping)
        return lambda V: _applied(basis, V)
    split = factored_tikhonov(curvature.factors.kfac(), damping)
    if method == "kfac":
        return lambda V: _applied(split, V)
    operator = curvature.factors.cfac()
    limit = {"iterations": iterations}
    return lambda V: damped_solve(operator, V, damping, split, **limit).value


def _applied(operator, V):
    """Return a gradient through an operator."""
    return operator.matvec(V.reshape(-1)).reshape(V.shape)


def _expect_method(method):
    """Refuse other methods."""
    if method not in METHODS:
        raise ValueError(
            f"method must be one of {METHODS}, got {method!r}; choose one of these"
        )
