"""Checks of theory/hessian.md: the network of an export against its stored samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from refspec import backend, curvature, hessian, rounding
from refspec.factors import lengths
from refspec.hessian.bounds import hessian_radius
from refspec.implicit import operator
from refspec.models import Network
from refspec.models.recompute import computed_again, recompute
from refspec.theorems import registry
from refspec.theorems.networks import (
    EIGENPROBLEM,
    dense_last_layer,
    few_parameters,
    linear_logits,
    piecewise_linear,
    problem,
    small_and_dense,
    small_hessian,
    tail,
    whole_network,
)
from refspec.theorems.registry import Comparison
from refspec.theorems.study import Study

# a network gives the numbers as they are stored, not multiples of them
identity = partial(registry.identity, as_stored=True)
inequality = partial(registry.inequality, as_stored=True)
statistical = partial(registry.statistical, as_stored=True)


def _matrices(study: Study) -> dict[str, np.ndarray]:
    """Compute Hessian, Fisher matrix and residual, each from the network by itself."""
    p, y = study.once(problem), study.snapshot.labels
    return {
        part: backend.to_host(
            hessian.hessian(
                p.network, p.X, y, layers=p.layers, part=part, sample_weights=p.weights
            )
        )
        for part in ("hessian", "fisher", "residual")
    }


def _stored_fisher(study: Study) -> tuple[np.ndarray, float]:
    """Form the Fisher matrix of the stored samples; bound its distance to exact."""
    p = study.once(problem)
    stored = curvature.fisher(study.snapshot, p.layers)
    return backend.to_host(stored.matrix()), study.once(_storage)


def _storage(study: Study) -> float:
    """Bound the distance of the Fisher matrix as formed to the network's exact one.

    Theory: theory/hessian.md#H1, #H7, #H10.
    """
    # A stored row that is off by |dg| <= sum_t |d||h| + |delta||e| + |d||e| moves G by
    # at most sum w (2 |g||dg| + |dg|^2) + sum s |dp| (|g| + |dg|)^2. Here d, e and dp
    # are measured; H10 holds them against rounding. The network's own rows are within
    # the radius of H7.
    s, p = study.snapshot, study.once(problem)
    again, _ = computed_again(s)
    size: np.ndarray | float = 0.0
    moved: np.ndarray | float = 0.0
    for x, y in ((s.layer(name), again.layer(name)) for name in p.layers):
        h, g = (backend.to_host(z) for z in (y.features, y.errors))
        e = lengths(h - backend.to_host(x.features), -1)[:, None, :]
        d = lengths(g - backend.to_host(x.errors), -1)
        h, g = lengths(h, -1)[:, None, :], lengths(g, -1)
        size = size + np.sum(g * h, axis=2) ** 2
        moved = moved + np.sum(d * h + g * e + d * e, axis=2) ** 2
    size, moved = np.sqrt(size), np.sqrt(moved)
    w, q = backend.to_host(s.sample_weights)[:, None], backend.to_host(s.probabilities)
    off = np.sum(w * q * (2 * size * moved + moved**2))
    off += np.sum(w * np.abs(q - backend.to_host(again.probabilities)) * size**2)
    absolute = float(np.sum(w * q * (size + moved) ** 2))
    k = 2 * int(np.prod(size.shape)) + 16 + max(x.features.shape[1] for x in s.layers)
    forming = rounding.second_moment_radius(k, absolute, study.u)
    return p.radius + 2 * (float(off) + forming)  # twice: this bound's own rounding


def _columns(A: np.ndarray) -> float:
    """Return the largest norm of a column: at most the 2-norm."""
    return float(np.max(lengths(A, 0), initial=0.0))


@identity(
    "Hessian = Fisher + residual",
    "grad^2 loss = G + E, G = sum w J'(diag p - pp')J the samples' Fisher matrix",
    small_hessian,
    question="data",
)
def H1(study: Study) -> Iterator[Comparison]:
    """Compare the network's Hessian with the samples' Fisher matrix plus E."""
    found, radius = study.once(_matrices), study.once(problem).radius
    G, storage = _stored_fisher(study)
    H, E = found["hessian"], found["residual"]
    sizes = sum(float(np.linalg.norm(x)) for x in (H, E, G))
    bound = 2 * radius + storage + rounding.gamma(3, study.u) * sizes
    yield _columns(H - E - G), bound, "largest column of H - E - G"


def _product(study: Study, names: tuple[str, ...], block: np.ndarray) -> Comparison:
    """Multiply a block with a probe, and do so without forming it."""
    p = study.once(problem)
    z = study.probes(block.shape[0])
    like = backend.from_host(z.astype(block.dtype), p.X)
    got = hessian.hessian_vector_product(
        p.network, p.X, study.snapshot.labels, like, layers=names,
        sample_weights=p.weights,
    )  # fmt: skip
    gap = float(np.linalg.norm(block @ z - backend.to_host(got)))
    size, g = float(np.linalg.norm(z)), rounding.gamma(len(z) + 2, study.u)
    bound = size * (2 * p.radius + g * float(np.linalg.norm(block)))
    return gap, bound, f"H z by blocks and by products, {'+'.join(names)}"


@identity(
    "Second derivatives at the pre-activations",
    "S^ll = diag(s) S_h diag(s) + diag(q delta_h), S_h^(l-1) = W' S^ll W",
    small_and_dense,
)
def H2(study: Study) -> Iterator[Comparison]:
    """Compare the diagonal blocks by S^{ll} with those by differentiation."""
    H, start = study.once(_matrices)["hessian"], 0
    for name in study.once(problem).layers:
        stop = start + study.snapshot.layer(name).parameters
        yield _product(study, (name,), H[start:stop, start:stop])
        start = stop


@identity(
    "Blocks of the Hessian in the parameters",
    "block (l, m) is sum_n S^lm (x) u^l u^m' + [l < m] R^lm delta^m u^l",
    small_and_dense,
)
def H3(study: Study) -> Iterator[Comparison]:
    """All blocks at once."""
    layers = study.once(problem).layers
    yield _product(study, layers, study.once(_matrices)["hessian"])


@identity(
    "Symmetry to the bit",
    "the computed Hessian, Fisher matrix and residual equal their transposes",
    small_hessian,
)
def H4(study: Study) -> Iterator[Comparison]:
    """To the bit."""
    for part, A in study.once(_matrices).items():
        yield float(np.max(np.abs(A - A.T))), 0.0, f"|A - A'| of the {part}"


@identity(
    "relu: the Hessian almost everywhere",
    "with piecewise linear activations E has zero diagonal blocks",
    piecewise_linear,
)
def H5(study: Study) -> Iterator[Comparison]:
    """E has no diagonal blocks."""
    E, start = study.once(_matrices)["residual"], 0
    for name in study.once(problem).layers:
        stop = start + study.snapshot.layer(name).parameters
        block = E[start:stop, start:stop]
        yield float(np.max(np.abs(block))), 0.0, f"E's block of {name}"
        start = stop


@identity(
    "Hessian-vector products",
    "forward-over-reverse gives Hz, Gz, Ez; Gz is the stored samples' X'(Xz)",
    small_hessian,
    question="data",
)
def H6(study: Study) -> Iterator[Comparison]:
    """G z by forward-over-reverse and from the stored errors."""
    p = study.once(problem)
    moment = curvature.fisher(study.snapshot, p.layers)
    z = study.probes(moment.shape[1])
    like = backend.from_host(z.astype(backend.to_host(p.X).dtype), p.X)
    got = hessian.hessian_vector_product(
        p.network, p.X, study.snapshot.labels, like, layers=p.layers, part="fisher",
        sample_weights=p.weights,
    )  # fmt: skip
    gap = backend.to_host(got) - backend.to_host(moment.matvec(like))
    bound = float(np.linalg.norm(z)) * (p.radius + study.once(_storage))
    yield float(np.linalg.norm(gap)), bound, "G z, network and samples"


@inequality(
    "How far a computed Hessian can be",
    "||fl(H) - H|| <= gamma_K R sum_n M_n(R) in float32 and in float64",
    dense_last_layer,
)
def H7(study: Study) -> Iterator[Comparison]:
    """Compare two algorithms for the last layer, and float32 if that says much.

    The same numbers, those of float32, in both precisions.
    """
    network, X = tail(study)
    s, xp = study.snapshot, backend.namespace(X)
    made, radii, products = [], [], None
    for dtype in (xp.float32, xp.float64):

        def cast(x: backend.Array, dtype: object = dtype) -> backend.Array:
            return xp.astype(xp.astype(x, xp.float32), dtype)

        parameters = {k: cast(x) for k, x in network.parameters.items()}
        net, w = Network(network.operations, parameters), cast(s.sample_weights)
        x = cast(X)
        H = hessian.hessian(net, x, s.labels, sample_weights=w)
        made.append(backend.to_host(H).astype(np.float64))
        radii.append(hessian_radius(net, x, s.labels, sample_weights=w))
        each = xp.eye(H.shape[0], dtype=dtype, device=backend.device(x))
        products = hessian.hessian_vector_product(
            net, x, s.labels, each, sample_weights=w
        )
    away = _columns(made[1] - backend.to_host(products))
    yield away, 2 * radii[1], "last layer's Hessian by blocks and by products"
    if sum(radii) < float(np.linalg.norm(made[1])):
        away = _columns(made[0] - made[1])
        yield away, sum(radii), "last layer's Hessian in float32 and float64"


@identity(
    "Softmax regression has no residual",
    "E = 0 bit for bit; every last layer is a softmax regression on its features",
    linear_logits,
)
def H8(study: Study) -> Iterator[Comparison]:
    """Compare the last layer with a softmax regression on its features."""
    network, X = tail(study)
    y, w = study.snapshot.labels, study.snapshot.sample_weights
    H, G, E = (
        backend.to_host(hessian.hessian(network, X, y, part=part, sample_weights=w))
        for part in ("hessian", "fisher", "residual")
    )
    away = max(float(np.max(np.abs(E))), float(np.max(np.abs(H - G))))
    yield away, 0.0, "E and H - G of the last layer"


@inequality(
    "Outliers of the Hessian through those of the Fisher matrix",
    "|l_k(H) - l_k(G)| <= ||E||; sin(top r) <= ||E|| / (l_r - l_(r+1) - ||E||)",
    few_parameters,
    question="data",
)
def H9(study: Study) -> Iterator[Comparison]:
    """Weyl's interval, and Davis-Kahan's angle wherever there is a gap."""
    p, s = study.once(problem), study.snapshot
    H, E = (_tail(study, study.once(_matrices)[x]) for x in ("hessian", "residual"))
    m = len(H)
    G = _stored_fisher(study)[0][-m:, -m:]
    values, U = (np.flip(x, axis=-1) for x in np.linalg.eigh(H))
    fisher, Q = (np.flip(x, axis=-1) for x in np.linalg.eigh(G))
    norm = float(np.linalg.norm(E, 2)) if np.any(E) else 0.0
    size = float(np.linalg.norm(H) + np.linalg.norm(G) + norm)
    solver = 2 * rounding.eigensolver_radius(m, size, study.u)
    slack = 2 * p.radius + study.once(_storage) + solver
    shift = float(np.max(np.abs(values - fisher)))
    yield shift - norm, slack, f"|l_k(H) - l_k(G)| - ||E||, {m} parameters"
    gaps = fisher[:-1] - fisher[1:]
    C = s.probabilities.shape[1]
    for r in np.flatnonzero(gaps[: C * C] > 2 * (norm + slack)) + 1:
        sine = float(np.linalg.norm(Q[:, r:].T @ U[:, :r], 2))
        limit = (norm + slack) / (float(gaps[r - 1]) - norm - slack)
        limit += rounding.gamma(m * m, study.u)  # Q'Q, U'U
        yield sine, limit, f"sine of the top-{r} eigenspaces"


@inequality(
    "Recomputing an export",
    "stored features, errors and probabilities are the network's within rounding",
    whole_network,
    question="data",
)
def H10(study: Study) -> Iterator[Comparison]:
    """Every stored array is what the network gives."""
    for x in recompute(study.snapshot):
        yield x.ratio, 1.0, x.name


@statistical(
    "Both ends of the spectrum from products",
    "l_k(H) = l_k(H + s) - s, l_(P+1-k)(H) = s - l_k(s - H), s >= ||H||",
    few_parameters,
)
def H11(study: Study) -> Iterator[Comparison]:
    """Compare the ends, from products with the Hessian, with all its eigenvalues."""
    H = _tail(study, study.once(_matrices)["hessian"])
    m = len(H)
    if m < 2:
        return
    values = np.linalg.eigvalsh(H)[::-1]
    size = float(np.max(np.abs(values)))
    solver = rounding.eigensolver_radius(m, size, study.u)
    k = min(3, m // 2)
    found = operator(lambda V: H @ V, H, m, seed=study.seed).ends(k)
    gap = np.abs(found.values - np.concatenate([values[:k], values[-k:]]))
    bound = found.radius + solver + study.tiny
    yield float(gap.max()), bound, size, f"{k} at both ends, {m} parameters"


def _tail(study: Study, matrix: np.ndarray) -> np.ndarray:
    """Return the block of the last layers that an eigenproblem is not too large for."""
    m = 0
    for name in reversed(study.once(problem).layers):
        if m + study.snapshot.layer(name).parameters > EIGENPROBLEM:
            break
        m += study.snapshot.layer(name).parameters
    return matrix[-m:, -m:]
