"""Checks of theory/hessian.md: the network of an export against its stored samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from refspec import backend, curvature, hessian, models, rounding
from refspec.factors import lengths
from refspec.hessian import assembly
from refspec.hessian.assembly import Seeded
from refspec.hessian.bounds import algorithm_errors, norm_of, product_errors
from refspec.implicit import operator
from refspec.models import Network
from refspec.models.recompute import Again, computed_again, recompute
from refspec.theorems import registry
from refspec.theorems.networks import (
    EIGENPROBLEM,
    Problem,
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
from refspec.theorems.quantities import norm, sizes_of_rows
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
        part: backend.to_host(hessian.hessian(p.network, p.X, y, part=part, **p.given))
        for part in ("hessian", "fisher", "residual")
    }


def _probe(study: Study) -> np.ndarray:
    """Return a random vector of length about 1, half of it where the Fisher is large.

    Products with it are of the matrix's size, and none of its entries is forgotten.
    """
    G = study.once(_matrices)["fisher"]
    z = study.probes(G.shape[0])
    y = G @ z
    return np.asarray(z / norm(z) + y / (norm(y) or 1.0))


def _rounding(study: Study, z: np.ndarray, seeded: Seeded, *names: str) -> float:
    """Bound the norm of the error of a product with z in layers, from its factors."""
    p = study.once(problem)
    like, shapes = backend.from_host(np.abs(z), p.X), _shapes(p, names)
    u, xp = rounding.unit_roundoff(p.X), backend.namespace(p.X)
    return norm(backend.to_host(algorithm_errors(seeded, shapes, u, xp)(like)))


def _shapes(p: Problem, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the shapes of some of the layers."""
    return {x: y for x, y in models.layer_shapes(p.network).items() if x in names}


def _seeded(study: Study, part: str) -> Seeded:
    """Seed a part of the Hessian at the inputs."""
    p, labels = study.once(problem), study.snapshot.labels
    return assembly.at_logits(p.network, p.X, labels, part, p.samples.sample_weights)


def _resumed(study: Study, part: str) -> Seeded:
    """Seed a part of the Hessian at the stored features, whose errors are computed."""
    p, run = study.once(problem), study.once(_again).run
    weights = p.samples.sample_weights
    return assembly.seed(run.steps, run.logits, study.snapshot.labels, part, weights)


def _storage(study: Study) -> float:
    """Bound the distance of the stored samples' Fisher matrix to the network's there.

    At the stored features, by what rounding can do to stored errors and probabilities,
    never by what it did. Theory: theory/hessian.md#H1.
    """
    # The network's matrix there is sum s p g g'. Stored p, within r p + lost of its p,
    # move it by r of itself and lost sum s |g|^2 at most; rows off by dg <= |d'h| <=
    # |d||h|, summed over positions, by 2 |X| |D| + |D|^2, d and r of the bounds of H10.
    p, again = study.once(problem), study.once(_again)
    q = backend.to_host(again.probabilities)
    dq = backend.to_host(again.bounds["probabilities"])
    r = float(np.max(dq / np.where(q > 0, q, math.inf), initial=0.0))
    if not r < 1:
        return math.inf
    s = backend.to_host(p.samples.sample_weights)[:, None]
    w, D = s * q + again.lost * s, 0.0
    for x in again.layers:
        if x.name in p.layers:
            d = backend.to_host(again.bounds[f"errors of {x.name}"])
            h = backend.to_host(p.samples.layer(x.name).features)
            each = np.sum(lengths(d, -1) * lengths(h, -1)[:, None, :], axis=2)
            D += float(np.sum(w * (1 + r) * each**2))
    largest = float(backend.to_host(study.basis.values)[0]) + study.basis.radius
    moment = curvature.fisher(p.samples, p.layers)
    forming = rounding.second_moment_radius(
        sum(moment.shape) + 64, moment.trace(), rounding.unit_roundoff(q)
    )
    largest /= 1 - r  # of the matrix with the network's p
    moved = r * largest + again.lost * np.sum(s * study.once(sizes_of_rows) ** 2)
    return float(moved + 2 * (largest * D) ** 0.5 + D + forming)


def _again(study: Study) -> Again:
    """Return what the network gives at the stored features."""
    return computed_again(study.snapshot)


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
    """Compare (H - E) z with Gz, of the network and of the stored samples."""
    found, z = study.once(_matrices), study.once(_probe)
    one = (found["hessian"] - found["residual"]) @ z
    g = rounding.gamma(len(z) + 4, rounding.unit_roundoff(z))
    sizes = sum(norm(np.abs(x) @ np.abs(z)) for x in found.values())
    names = study.once(problem).layers
    bound = 3 * _rounding(study, z, _seeded(study, "hessian"), *names) + 2 * g * sizes
    yield norm(one - found["fisher"] @ z), bound, norm(one), "(H - E) z and G z"
    yield _against_stored(study, z, ("hessian", "residual"))


def _against_stored(study: Study, z: np.ndarray, parts: Sequence[str]) -> Comparison:
    """Compare a part times z, less another, with the stored samples' X'(Xz).

    At the stored features; what errors and probabilities were stored with is bounded.
    """
    p = study.once(problem)
    like, xp = backend.from_host(z, p.X), backend.namespace(p.X)
    seeded = [_resumed(study, x) for x in parts]
    made = [
        backend.to_host(
            assembly.multiplied(x, _shapes(p, p.layers), like[None, :], xp)
        )[0]
        for x in seeded
    ]
    moment = curvature.fisher(p.samples, p.layers)
    found = made[0] - sum(made[1:])
    gap = norm(found - backend.to_host(moment.matvec(like)))
    bound = (len(made) + 3) * _rounding(study, z, seeded[0], *p.layers)
    bound += norm(z) * study.once(_storage)
    return gap, bound, norm(found), f"{' - '.join(parts)} and stored samples"


def _product(study: Study, names: tuple[str, ...], block: np.ndarray) -> Comparison:
    """Multiply a block with a probe, and do so without forming it."""
    p = study.once(problem)
    z = study.probes(block.shape[0])
    got = hessian.hessian_vector_product(
        p.network, p.X, study.snapshot.labels, backend.from_host(z, p.X),
        **{**p.given, "layers": names},
    )  # fmt: skip
    gap, g = block @ z - backend.to_host(got), rounding.gamma(len(z) + 2, study.u)
    bound = 2 * _rounding(study, z, _seeded(study, "hessian"), *names)
    bound += g * norm(np.abs(block) @ np.abs(z))
    what = f"H z by blocks and by products, {'+'.join(names)}"
    return norm(gap), bound, norm(block @ z), what


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
        yield float(np.max(np.abs(A - A.T))), 0.0, norm(A), f"|A - A'| of the {part}"


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
        yield float(np.max(np.abs(block))), 0.0, norm(E), f"E's block of {name}"
        start = stop


@identity(
    "Hessian-vector products",
    "forward-over-reverse gives Hz, Gz, Ez; Gz is the stored samples' X'(Xz)",
    small_hessian,
    question="data",
)
def H6(study: Study) -> Iterator[Comparison]:
    """G z by forward-over-reverse and from samples, the network's and the stored."""
    p, z = study.once(problem), study.once(_probe)
    like = backend.from_host(z, p.X)
    got = backend.to_host(
        hessian.hessian_vector_product(
            p.network, p.X, study.snapshot.labels, like, part="fisher", **p.given
        )
    )
    # sum_c' p_c' |p - e_c'||p - e_c'|' is at most 3 |diag p - pp'|
    bound = 4 * _rounding(study, z, _seeded(study, "fisher"), *p.layers)
    w = p.samples.sample_weights
    own = models.snapshot(p.network, p.X, study.snapshot.labels, sample_weights=w)
    moment = curvature.fisher(own, p.layers)
    gap = norm(got - backend.to_host(moment.matvec(like)))
    yield gap, bound, norm(got), "G z, network and its samples"
    yield _against_stored(study, z, ("fisher",))


@inequality(
    "How far a computed Hessian can be",
    "||fl(H) - H|| <= max_i (B v)_i / v_i for any v > 0, in float32 and in float64",
    dense_last_layer,
    coarse="sees 1e-10 in float64; one side is float32 too, which it sees to 1e-2",
)
def H7(study: Study) -> Iterator[Comparison]:
    """Compare two algorithms for the last layer, and float32 with float64.

    The same numbers, those of float32, in both precisions.
    """
    network, X = tail(study)
    s, xp = study.snapshot, backend.namespace(X)
    made, radii, products = [], [], None
    for dtype in (xp.float32, xp.float64):

        def cast(x: backend.Array, dtype: object = dtype) -> backend.Array:
            return xp.astype(xp.astype(x, xp.float32), dtype)

        parameters = {k: cast(x) for k, x in network.parameters.items()}
        net, x = Network(network.operations, parameters), cast(X)
        how = {"sample_weights": cast(s.sample_weights)}
        H = hessian.hessian(net, x, s.labels, **how)
        made.append(backend.to_host(H).astype(np.float64))
        errors_of = product_errors(net, x, s.labels, subtracted=False, **how)
        radii.append(norm_of(errors_of, net, x) if errors_of else math.inf)
        each = xp.eye(H.shape[0], dtype=dtype, device=backend.device(x))
        products = hessian.hessian_vector_product(net, x, s.labels, each, **how)
    away, size = _columns(made[1] - backend.to_host(products)), _columns(made[1])
    yield away, 2 * radii[1], size, "last layer's Hessian by blocks and by products"
    away = _columns(made[0] - made[1])
    yield away, sum(radii), size, "last layer's Hessian in float32 and float64"


@identity(
    "Softmax regression has no residual",
    "E = 0 bit for bit; every last layer is a softmax regression on its features",
    linear_logits,
)
def H8(study: Study) -> Iterator[Comparison]:
    """Compare the last layer with a softmax regression on its features."""
    network, X = tail(study)
    y, w = study.snapshot.labels, study.once(problem).samples.sample_weights
    H, G, E = (
        backend.to_host(hessian.hessian(network, X, y, part=part, sample_weights=w))
        for part in ("hessian", "fisher", "residual")
    )
    away = max(float(np.max(np.abs(E))), float(np.max(np.abs(H - G))))
    yield away, 0.0, norm(H), "E and H - G of the last layer"


@inequality(
    "Outliers of the Hessian through those of the Fisher matrix",
    "|l_k(H) - l_k(G)| <= ||E||; sin(top r) <= ||E|| / (l_r - l_(r+1) - ||E||)",
    few_parameters,
    question="data",
)
def H9(study: Study) -> Iterator[Comparison]:
    """Weyl's interval, and Davis-Kahan's angle wherever there is a gap."""
    p, every = study.once(problem), models.layer_shapes(study.once(problem).network)
    names: tuple[str, ...] = ()
    for name in reversed(p.layers):
        if sum(math.prod(every[x]) for x in (name, *names)) > EIGENPROBLEM:
            break
        names = (name, *names)
    seeded, shapes = _resumed(study, "hessian"), _shapes(p, names)
    H, E = (
        backend.to_host(assembly.assembled(_resumed(study, part), shapes, every))
        for part in ("hessian", "residual")
    )
    G = backend.to_host(curvature.fisher(p.samples, names).matrix())
    m, u, xp = len(G), rounding.unit_roundoff(p.X), backend.namespace(p.X)
    errors_of = algorithm_errors(seeded, shapes, u, xp)
    values, U = (np.flip(x, axis=-1) for x in np.linalg.eigh(H))
    fisher, Q = (np.flip(x, axis=-1) for x in np.linalg.eigh(G))
    most = float(np.linalg.norm(E, 2)) if np.any(E) else 0.0
    size = float(np.linalg.norm(H) + np.linalg.norm(G) + most)
    solver = 2 * rounding.eigensolver_radius(m, size, study.u)
    slack = 2 * norm_of(errors_of, p.network, p.X, names)
    slack += study.once(_storage) + solver
    shift, largest = float(np.max(np.abs(values - fisher))), float(fisher[0])
    what = f"|l_k(H) - l_k(G)| - ||E||, {m} parameters"
    yield shift - most, slack, largest, what
    gaps = fisher[:-1] - fisher[1:]
    C = study.snapshot.probabilities.shape[1]
    for r in np.flatnonzero(gaps[: C * C] > 2 * (most + slack)) + 1:
        sine = float(np.linalg.norm(Q[:, r:].T @ U[:, :r], 2))
        gap = float(gaps[r - 1])
        bound = (1 + sine) * slack + rounding.gamma(m * m, study.u) * gap  # Q'Q, U'U
        what = f"sine of the top-{r} eigenspaces, times the gap"
        yield sine * (gap - most) - most, bound, largest, what


@inequality(
    "Recomputing an export",
    "stored features, errors and probabilities are the network's within rounding",
    whole_network,
    question="data",
)
def H10(study: Study) -> Iterator[Comparison]:
    """Every stored array is what the network gives; the first wrong one is named."""
    # what goes on from wrong features is wrong too: features are looked at before
    found = sorted(recompute(study.snapshot), key=lambda x: "features" not in x.name)
    for x in found:
        yield x.ratio * x.bound, x.bound, x.size, x.name
        if x.ratio > 1:
            return


@statistical(
    "Both ends of the spectrum from products",
    "l_k(H) = l_k(H + s) - s, l_(P+1-k)(H) = s - l_k(s - H), s >= ||H||",
    few_parameters,
    coarse="sees 1e-3 of the norm where an end is a cluster, which S3 looks beyond",
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
