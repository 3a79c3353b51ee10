"""The largest eigenvalues attributed, from products with X and X' alone.

An eigenvector over the rows, u, has the share ||P_level u||^2 of a level. The levels of
the means live in the small cell space, so that their spectra are known whole; of what
is within, and of a knock-out, the largest are found as those of the whole are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refspec import backend, ways
from refspec.attribution.assembly import Attribution, assembled
from refspec.backend import Array, Namespace
from refspec.classes import class_slices
from refspec.coordinates.frame import uncertain, way_back
from refspec.curvature import SecondMoment, in_pieces
from refspec.factors import Factors, stacked
from refspec.leading import (
    Leading,
    expect_top,
    of_projections,
    of_scaled,
    product_radius,
    scaled_beside_gram,
    squared_lengths,
    tiniest,
)
from refspec.quadrature import WHOLE
from refspec.spectra import Spectrum, cluster_means, eigenvalues
from refspec.structure import (
    KINDS,
    Decomposition,
    cell_gram,
    cell_norms,
    cell_units,
    cell_vectors,
    cells,
    decompose,
    of_classes,
    unit_rows,
)

#: Levels of one vector a class.
_OF_CLASSES = ("diagonal", "between_class")


def attribute_leading(moment: SecondMoment, k: int) -> Attribution:
    """Attribute the k largest eigenvalues: `refspec.attribute(moment, top=k)`.

    Theory: theory/attribution.md#A6; theory/spectra.md#S3.
    """
    moment = in_pieces(expect_top(moment, k))
    products = ways.products(k, ways.runs(moment))
    small, power = scaled_beside_gram(moment, products)
    xp, split, norms = small.xp, decompose(small), cell_norms(small)
    trace = small.rows.trace()
    radii, means = [0.0], list(split.of_cells)
    (within,) = set(split.levels) - set(means)
    many = ways.cells_by_products(small, k)
    gram = None if many else cell_gram(small, norms)
    found = largest(split, k, trace)
    whole = found[WHOLE]

    def of_means(names: list[str]) -> np.ndarray:
        if gram is None and not (small.rows.combines and {*names} <= {*_OF_CLASSES}):
            return of_rows(split.together(names))
        if gram is None:
            few = gram_of_classes(small, norms, names)
            values, solver = eigenvalues(few, xp)
            radii.append(whole.radius + solver)
            return np.pad(backend.to_host(values), (0, k))[:k]  # no more than vectors
        values, solver = eigenvalues(over_cells(gram, split, names, norms, xp), xp)
        radii.append(whole.radius + solver)
        return backend.to_host(values)

    def of_rows(seen: SecondMoment) -> np.ndarray:
        return known(of_scaled(seen, k, trace))

    def known(one: Leading) -> np.ndarray:
        radii.append(one.radius)
        return one.values

    levels = {n: of_means([n]) for n in means} | {within: known(found[within])}
    knockouts = {n: known(found[n]) for n in means}
    knockouts[within] = of_means(means)
    between = [n for n in means if KINDS[n] == "outlier"]
    B = of_means(between)
    # what is read off the cells is a product too, and the weights may have underflowed
    radius = max(radii) + product_radius(split.levels[within], trace)
    radius += uncertain(small, small.rows, trace)
    rank = int(np.sum(whole.values > radius))  # the others have no known eigenvector
    values = whole.values[:rank]
    traces = {n: float(levels[n].sum()) for n in means}
    if many:
        traces = _traces(small, norms)
    all_of_it = trace if small.projection is None else small.trace()
    traces[within] = all_of_it - sum(traces.values())
    squares, spread = _over_levels(whole, rank, split, norms, many)

    def angles(names: list[str], k: int) -> np.ndarray:
        if gram is None:
            return np.zeros(0)
        inner = over_cells(gram, split, names, norms, xp)
        return _angles(values[:k], spread, inner, radius)

    up = way_back(moment, power, trace + radius) ** 2
    tiny = tiniest(moment, trace)
    return assembled(
        Spectrum(
            backend.beside(whole.values * up, norms),
            None,
            whole.radius * up + tiny,
            whole.kind,
            moment.shape[1],
            complete=False,
        ),
        {n: x * up for n, x in traces.items()},
        values * up,
        _normalised(cluster_means(values, radius, squares)),
        {n: x * up for n, x in levels.items()},
        {n: x * up for n, x in knockouts.items()},
        B * up,
        angles,
        radius * up + tiny,
    )


def gram_of_classes(moment: SecondMoment, norms: Array, names: list[str]) -> Array:
    """Return the Gram matrix of levels that have one vector a class, (m C, m C).

    Layer by layer from sums over a class or, where these are too long, from pairs of
    samples. Theory: theory/levels.md#L1; theory/curvature.md#C2.
    """
    xp, C = moment.xp, norms.shape[0]
    own, others = of_classes(norms)
    along, made = {"diagonal": own, "between_class": others}, []
    for name in names:
        z = [unit_rows(moment, norms, c) * along[name][c : c + 1, :] for c in range(C)]
        made.append(moment.rows.combined(backend.concatenate(z)))
    rows, N = stacked(made), moment.rows.shape[0]
    starts = np.add.outer(N * np.arange(len(names)), moment.offsets[:-1])
    ends, total = (*starts.ravel().tolist(), len(names) * N), None
    for f in rows.layers:
        few = 8 * (len(ends) - 1) * f.dimension <= ways.explicit_budget()
        part = (_by_sums if few else _by_pairs)(Factors((f,)), ends)
        total = part if total is None else total + part
    return (total + xp.matrix_transpose(total)) / 2


def _by_sums(rows: Factors, ends: tuple[int, ...]) -> Array:
    """Return inner products of the sums of groups of rows, which are formed.

    Of one layer, whose outputs are taken one by one: an entry is a sum of two.
    """
    xp, (n, _, P), b = rows.xp, rows.shape, rows.layers[0].roots.shape[3]
    one = xp.ones((n, 1), dtype=rows.like.dtype, device=backend.device(rows.like))
    sums = xp.reshape(rows.sums(one, ends), (len(ends) - 1, b, P // b))
    V = xp.permute_dims(sums, (1, 0, 2))
    return xp.sum(V @ xp.matrix_transpose(V), axis=0)


def _by_pairs(rows: Factors, ends: tuple[int, ...]) -> Array:
    """Return the same from inner products of all pairs of rows, no sum formed."""
    xp, n, total = rows.xp, rows.shape[0], None
    member = np.zeros((n, len(ends) - 1))
    member[np.arange(n), np.searchsorted(ends, np.arange(n), side="right") - 1] = 1
    S, every = (
        backend.beside(member, rows.like),
        backend.from_host(np.arange(n), rows.like),
    )
    step = backend.at_a_time(8 * n, rows.like)
    for i in range(0, n, step):
        j = min(i + step, n)
        part = xp.matrix_transpose(S[i:j, :]) @ (rows.gram(every[i:j]) @ S)
        total = part if total is None else total + part
    return total


def largest(split: Decomposition, k: int, trace: float) -> dict[str, Leading]:
    """Return the k largest of the whole, of what is within, and without other levels.

    From one Krylov space or each from its own, whichever takes fewer products.
    """
    if ways.by_one_space(split.total, k):
        return of_one_space(split, k, trace)
    found = {}
    for name, seen in _seen(split).items():
        one = of_scaled(seen, k, trace)
        if name != WHOLE:  # nobody asks for those of the others: let them go
            none = seen.xp.zeros_like(one.vectors[:0, :])
            one = replace(one, vectors=none)
        found[name] = one
    return found


def of_one_space(split: Decomposition, k: int, trace: float) -> dict[str, Leading]:
    """Do as `largest`, from one space: all see the same rows through I - QDQ'.

    Theory: theory/spectra.md#S6.
    """
    small, seen, norms = split.total, _seen(split), cell_norms(split.total)
    xp, q = small.xp, norms.shape[0] * norms.shape[1]
    one = xp.eye(q, dtype=norms.dtype, device=backend.device(norms))
    gone = dict.fromkeys(seen, one) | {WHOLE: 0 * one}
    for name, project in split.of_cells.items():
        gone[name] = xp.reshape(project(xp.reshape(one, (*norms.shape, q))), (q, q))
    both = {n: (x, backend.to_host(gone[n])) for n, x in seen.items()}
    return of_projections(small, both, cell_vectors(small, norms), k, trace)


def _seen(split: Decomposition) -> dict[str, SecondMoment]:
    """Return the whole, what is within, and without each level of the means."""
    without = {n: split.without(n) for n in split.of_cells}
    within = {n: x for n, x in split.levels.items() if n not in without}
    return {WHOLE: split.total} | within | without


def over_cells(
    gram: Array, split: Decomposition, names: list[str], norms: Array, xp: Namespace
) -> Array:
    """Return the sum of some levels of the means over the cells, (C K, C K)."""
    for _ in range(2):  # symmetric, so that its columns are its rows
        x = xp.reshape(gram, (*norms.shape, -1))
        seen = sum(split.of_cells[n](x) for n in names)
        gram = xp.matrix_transpose(xp.reshape(seen, gram.shape))
    return (gram + xp.matrix_transpose(gram)) / 2


def _over_levels(
    whole: Leading, rank: int, split: Decomposition, norms: Array, many: bool
) -> tuple[dict[str, np.ndarray], Array | None]:
    """Return what every level sees of each eigenvector, squared, (rank,), by level.

    And the eigenvectors over the cells, (C, K, rank), if those are not too many. Some
    at a time: over the rows an eigenvector has N K entries.
    """
    xp, rows = split.total.xp, split.total.rows
    parts: dict[str, list[np.ndarray]] = {name: [] for name in split.levels}
    spread = []
    step = rows.group.least(ways.columns(rows.samples * rows.shape[1], norms))
    for i in range(0, rank, step):
        seen = whole.over_rows(i, min(i + step, rank))
        for name, level in split.levels.items():
            parts[name].append(squared_lengths(level, level.project(seen)))
        spread += [] if many else [cells(split.total, seen, norms)]
    found = {name: np.concatenate([np.zeros(0), *x]) for name, x in parts.items()}
    if many:
        return found, None
    nothing = xp.zeros_like(norms)[..., None][..., :0]
    return found, backend.concatenate([nothing, *spread], axis=2)


def _traces(moment: SecondMoment, norms: Array) -> dict[str, float]:
    """Return the trace of every level of the means, K > 1, no cell's mean formed.

    Of the squares of all means, of the own class's, and of the mean of the others;
    cross-class means are what is left. Theory: theory/levels.md#L1.
    """
    xp, rows, offsets = moment.xp, moment.rows, moment.offsets
    unit, (own, others) = cell_units(moment, norms), of_classes(norms)
    squares = rows.squared_sums(unit, offsets)
    diagonal = backend.scalar(xp.sum(own * squares))
    masses, between = backend.to_host(xp.sum(norms, axis=1)), 0.0
    for c, i, j in class_slices(offsets):
        if masses[c] == 0:  # here and in all other processes that have rows
            continue
        mean = rows.part(i, j).cross((unit[i:j, :] * others[c, :])[:, :, None])
        between += backend.scalar(xp.sum(mean * mean))
    return {
        "diagonal": diagonal,
        "between_class": between,
        "between_cross_class": backend.scalar(xp.sum(squares)) - diagonal - between,
    }


def _normalised(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return parts (r,) that add up to 1."""
    total = sum(parts.values())
    return {n: x / total for n, x in parts.items()}


def _angles(
    values: np.ndarray, spread: Array, between: Array, radius: float
) -> np.ndarray:
    """Return the angles of eigenvectors to the span of means, by the Gram matrix.

    With v = X'u / sqrt(lambda), w = X'Qx / sqrt(sigma): v'w = sqrt(lambda / sigma)u'Qx.
    """
    sigma, W = np.linalg.eigh(backend.to_host(between))
    W, sigma = W[:, sigma > radius], sigma[sigma > radius]
    inside = backend.to_host(spread).reshape(len(W), -1)[:, : len(values)].T @ W
    cosines = inside * np.sqrt(values[:, None] / sigma)
    s = np.linalg.svd(cosines, compute_uv=False)
    return np.asarray(np.arccos(np.minimum(s, 1)))
