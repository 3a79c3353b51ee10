"""Both coordinate systems keep X'X and every cell mean, within their radius."""

from dataclasses import replace

import numpy as np
import pytest

import refspec
from refspec import attribution, backend, coordinates, curvature, rounding
from refspec.coordinates import certified as certified_module
from refspec.coordinates import factorisation
from refspec.coordinates.certified import certified
from refspec.coordinates.frame import uncertain
from refspec.factors import Factor, Factors
from refspec.rows import Scaled
from refspec.spectra import spectrum
from support.snapshots import rows_of, sampled

CASES = {
    "unequal": {},
    "one sample a class": {"counts": (1, 1, 1)},
    "two classes": {"counts": (3, 2)},
    "fewer samples than dimensions": {"counts": (1, 2), "sides": ((6, 5),)},
    "fewer dimensions than classes": {"counts": (2, 2, 2, 2), "sides": ((1, 1),)},
    "positions": {"T": 2},
}


def levels_of(at):
    """Eigenvalues of the whole and of every level, padded with zeros."""
    result = attribution.attribute(at)
    return {"total": result.spectrum.values, **result.levels}, result.radius


def truth(snapshot):
    """The same from explicit rows and averages."""
    X = rows_of(snapshot)
    p = backend.to_host(snapshot.probabilities)
    N, C = p.shape
    w = backend.to_host(snapshot.sample_weights)[:, None] * p
    labels = snapshot.labels
    V = X.reshape(N, C, -1) / np.sqrt(w)[:, :, None]
    out = {"diagonal": [], "between_class": [], "between_cross_class": []}
    within = []
    for c in range(C):
        mine = labels == c
        mass = w[mine].sum(0)
        mean = np.einsum("nk,nkd->kd", w[mine], V[mine]) / mass[:, None]
        others = np.arange(C) != c
        own = mass[others] @ mean[others] / mass[others].sum()
        out["diagonal"].append(np.sqrt(mass[c]) * mean[c])
        out["between_class"].append(np.sqrt(mass[others].sum()) * own)
        out["between_cross_class"].extend(
            np.sqrt(mass[k]) * (mean[k] - own) for k in range(C) if k != c
        )
        within.append(np.sqrt(w[mine])[:, :, None] * (V[mine] - mean))
    out["within_cross_class"] = np.concatenate(within).reshape(N * C, -1)
    out["total"] = X
    return {
        n: np.linalg.svd(np.array(x), compute_uv=False) ** 2 for n, x in out.items()
    }


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("side", ["primal", "dual"])
def test_levels_have_the_spectra_of_explicit_averages(asarray, case, side):
    snapshot = sampled(**CASES[case], asarray=asarray)
    at = getattr(coordinates, side)(curvature.fisher(snapshot))
    found, radius = levels_of(at)
    X = rows_of(snapshot)
    u, trace = 2.0**-53, float((X * X).sum())
    # means divide by masses and come back: 4 (N + C) roundings more on either side
    more = rounding.gamma(8 * sum(X.shape) + 64, u) * trace
    for name, values in truth(snapshot).items():
        mine = backend.to_host(found[name])
        n = max(len(mine), len(values))
        gap = np.pad(mine, (0, n - len(mine))) - np.pad(values, (0, n - len(values)))
        assert np.abs(gap).max() <= radius + more, name
    if len(snapshot.offsets) == 3:
        assert backend.to_host(found["between_cross_class"]).max() <= radius + more


def test_a_probability_of_zero_is_no_mass_and_no_failure(asarray):
    snapshot = sampled(counts=(4, 3, 2))
    p = snapshot.probabilities.copy()
    p[0] = [1.0, 0.0, 0.0]
    p[4:7, 0] = 0.0  # a whole cell without mass
    p[4:7] /= p[4:7].sum(1, keepdims=True)
    layers = [
        refspec.Layer(x.name, asarray(x.features), asarray(x.errors))
        for x in snapshot.layers
    ]
    changed = refspec.snapshot(layers, snapshot.labels, probabilities=asarray(p))
    moment = curvature.fisher(changed)
    for at in (coordinates.primal(moment), coordinates.dual(moment)):
        values = backend.to_host(attribution.attribute(at).spectrum.values)
        X = rows_of(changed)
        true = np.linalg.svd(X, compute_uv=False) ** 2
        n = max(len(values), len(true))
        gap = np.pad(values, (0, n - len(values))) - np.pad(true, (0, n - len(true)))
        assert np.isfinite(values).all()
        assert np.abs(gap).max() <= 2 * at.radius + 2.0**-53 * n * true.sum()


def test_the_smaller_side_is_chosen():
    wide = curvature.fisher(sampled(counts=(1, 1), sides=((9, 9),)))
    tall = curvature.fisher(sampled(counts=(30, 30), sides=((2, 2),)))
    assert coordinates.coordinates(wide).side == "dual"
    assert coordinates.coordinates(tall).side == "primal"


def test_unscored_rows_keep_all_their_cross_classes(asarray):
    """Data that do not satisfy the score identity must not lose a row a sample."""
    snapshot = sampled(asarray=asarray)
    layers = [
        refspec.Layer(x.name, x.features, x.errors + 1.0) for x in snapshot.layers
    ]
    changed = refspec.snapshot(
        layers, snapshot.labels, probabilities=snapshot.probabilities
    )
    at = coordinates.dual(curvature.fisher(changed))
    values = backend.to_host(refspec.spectrum(at).values)
    true = np.linalg.svd(rows_of(changed), compute_uv=False) ** 2
    n = max(len(values), len(true))
    gap = np.pad(values, (0, n - len(values))) - np.pad(true, (0, n - len(true)))
    assert np.abs(gap).max() <= 2 * at.radius + 2.0**-53 * n * true.sum()
    assert at.radius <= n * coordinates.primal(curvature.fisher(changed)).radius


@pytest.mark.parametrize("case", sorted(CASES))
def test_both_sides_are_as_sharp(monkeypatch, asarray, case):
    """Nothing is left out that rounding would not hide: no pivot is missing."""
    monkeypatch.setattr(factorisation, "BLOCK", 2)
    moment = curvature.fisher(sampled(**CASES[case], asarray=asarray))
    one, other = coordinates.primal(moment), coordinates.dual(moment)
    n = max(moment.shape)
    assert other.radius <= n * one.radius
    assert other.level_radius <= n * one.level_radius


@pytest.mark.parametrize("case", sorted(CASES))
def test_certified_coordinates_are_an_eigenbasis(asarray, case):
    """On the host, whatever the rows are in; the same from rows that are no factors."""
    moment = curvature.fisher(sampled(**CASES[case], asarray=asarray))
    plain = coordinates.coordinates(moment)
    scaled = replace(moment, rows=Scaled(moment.rows, 0))
    for at in (coordinates.coordinates(x, certify=True) for x in (moment, scaled)):
        assert isinstance(at.second, np.ndarray)
        assert at.kind == "certified"
        assert at.side == plain.side
        d = np.diagonal(at.second)
        assert np.array_equal(at.second, np.diag(np.sort(d)[::-1]))
        values = backend.to_host(refspec.spectrum(plain).values)
        n = max(len(values), len(d))
        gap = np.pad(values, (0, n - len(values))) - np.pad(d, (0, n - len(d)))
        assert np.abs(gap).max() <= refspec.spectrum(plain).radius + at.radius
        # weights, forming, factor, columns: each a few units, whatever the sizes
        few = 2 * rounding.gamma(4, 2.0**-53) * float(at.trace)
        if case != "positions":
            assert at.radius <= 16 * few


def squares_of(at):
    """Descending eigenvalues of the cell means' second moment in the coordinates."""
    M = at.means.reshape(-1, at.means.shape[2])
    return np.linalg.svd(M, compute_uv=False) ** 2


def test_a_basis_that_is_not_orthogonal_costs_radius(monkeypatch):
    """It is measured for the whole and for the levels, whatever LAPACK returns."""
    snapshot = sampled(counts=(30, 40, 20), sides=((3, 2),))
    moment, right = refspec.fisher(snapshot), certified_module._eigenvectors
    true, means = spectrum(moment).values, squares_of(coordinates.primal(moment))

    def slanted(A):
        d, V = right(A)
        return d, V + 2.0**-20 * np.random.default_rng(0).standard_normal(V.shape)

    monkeypatch.setattr(certified_module, "_eigenvectors", slanted)
    at = certified(moment)
    assert at.side == "primal"
    off = np.max(np.abs(np.diagonal(at.second) - true))
    moved = np.max(np.abs(squares_of(at) - means)[: len(means)])
    assert off < at.radius < 2.0**-10 * at.trace
    assert moved < at.level_radius - at.radius < 2.0**-10 * at.trace
    monkeypatch.setattr(certified_module, "_gap", lambda *_: (0.0, 0.0, 0.0))
    unmeasured = certified(moment)
    assert moved > unmeasured.level_radius - unmeasured.radius


@pytest.mark.parametrize(("side", "a"), [("primal", 2), ("dual", 9)])
def test_wrong_eigenvalues_and_vectors_cost_radius(monkeypatch, side, a):
    """What LAPACK returns is measured, not believed."""
    moment = refspec.fisher(sampled(sides=((a, 3),)))
    right = certified_module._eigenvectors
    true = spectrum(moment).values

    def wrong(A):
        d, V = right(A)
        return d * (1 + 2.0**-20), V * (1 + 2.0**-20)

    monkeypatch.setattr(certified_module, "_eigenvectors", wrong)
    at = certified(moment)
    assert at.side == side
    d = np.diagonal(at.second)
    k = min(len(d), len(true))
    assert spectrum(moment).radius < np.max(np.abs(d[:k] - true[:k])) < at.radius
    assert at.radius < 2.0**-10 * at.trace


def test_certified_radii_are_far_below_the_others():
    """Where there are samples enough for an a-priori bound to be wide."""
    moment = curvature.fisher(sampled(counts=(40, 40, 40), sides=((7, 9),)))
    wide, close = (
        refspec.attribute(moment, certify=certify) for certify in (False, True)
    )
    assert wide.spectrum.radius > 10 * close.spectrum.radius
    assert wide.radius > 5 * close.radius


def test_float32_has_a_wider_radius_and_keeps_it():
    snapshot = sampled()
    narrow = [
        refspec.Layer(x.name, x.features.astype("f4"), x.errors.astype("f4"))
        for x in snapshot.layers
    ]
    p = snapshot.probabilities.astype("f4")
    small = refspec.snapshot(narrow, snapshot.labels, probabilities=p)
    at = coordinates.dual(curvature.fisher(small))
    found = refspec.spectrum(at)
    wide = [
        refspec.Layer(x.name, x.features.astype("f8"), x.errors.astype("f8"))
        for x in small.layers
    ]
    p8 = p.astype("f8")
    p8 = p8 / p8.sum(1)[:, None]
    X = rows_of(refspec.snapshot(wide, small.labels, probabilities=p8))
    true = np.linalg.svd(X, compute_uv=False) ** 2
    n = len(found.values)
    moved = 4 * 2.0**-24 * true.sum()  # the probabilities were scaled to sum to one
    assert np.abs(found.values - true[:n]).max() <= found.radius + moved
    assert found.values.dtype == np.float32
    exact = refspec.spectrum(coordinates.dual(curvature.fisher(snapshot)))
    assert found.radius > 2.0**20 * exact.radius  # u is 2^29 times larger


@pytest.mark.parametrize("power", [-60, -30, -10, -3])
def test_what_pivoted_rows_leave_out_is_what_was_measured(monkeypatch, asarray, power):
    """The rows of pivots known block by block, the others' computed: nothing else."""
    monkeypatch.setattr(factorisation, "BLOCK", 4)
    snapshot = sampled(counts=(5, 3, 4), asarray=asarray)
    moment, X = curvature.fisher(snapshot), rows_of(snapshot)
    n, trace, u = len(X), float((X * X).sum()), 2.0**-53
    made = factorisation.pivoted_rows(moment.rows, trace * 2.0**power, moment.xp)
    L = backend.to_host(made.L)
    assert len(L) <= min(X.shape)
    assert len(backend.to_host(made.others)) >= n - len(L)
    true = np.linalg.norm(X @ X.T - L.T @ L)
    found = factorisation.residual(moment.rows, made, trace, u, moment.xp)
    slack = 4 * rounding.second_moment_radius(sum(X.shape) + 64, trace, u)
    # both triangles of a block of pivots are counted twice
    assert true - slack <= found <= 2**0.5 * true + slack


@pytest.mark.parametrize("power", [-4, -12, -24])
def test_pivots_are_as_many_as_the_tolerance_asks_for(monkeypatch, asarray, power):
    """With them the diagonal that is left is below it, with one less it is not."""
    monkeypatch.setattr(factorisation, "BLOCK", 4)
    moment, X = graded(asarray)
    trace = float((X * X).sum())
    tolerance = trace * 2.0**power
    made = factorisation.pivoted_rows(moment.rows, tolerance, moment.xp)
    L, G = backend.to_host(made.L), X @ X.T
    slack = rounding.gamma(len(X), 2.0**-53) * trace
    assert np.linalg.norm(np.diag(G - L.T @ L)) <= tolerance + slack
    assert np.linalg.norm(np.diag(G - L[:-1].T @ L[:-1])) > tolerance
    assert slack < tolerance / 2**20


def test_the_factorisation_stops_at_the_rounding_of_the_gram_matrix(asarray):
    """What it leaves out is no more than n^(3/2) u of the trace, and is measured."""
    moment, X = graded(asarray)
    n, u, trace = len(X), 2.0**-53, float((X * X).sum())
    at = coordinates.dual(moment)
    left_out = n**1.5 * u * trace / 2
    rounded = rounding.second_moment_radius(4 * n + 4 * X.shape[1] + 64, trace, u)
    assert at.radius <= left_out + 4 * rounded


@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("part", [2.0**-6, 2.0**-12, 2.0**-24])
def test_no_eigenvalue_leaves_its_radius_with_rows_left_out(asarray, part, certify):
    """Of the whole, of no level and no knock-out; without the trace some would."""
    moment, _ = graded(asarray)
    every = attribution.attribute(moment)
    some = attribution.attribute(moment, leave_out=part, certify=certify)
    made, trace = some.spectrum, moment.trace()
    r = made.values.shape[0]
    assert r < every.spectrum.values.shape[0]
    assert 0 < made.left_out <= part * trace
    assert made.rows_left_out == 40 - r
    assert f"with {made.rows_left_out} of 40 rows left out" in made.kind
    pairs = [(every.spectrum.values, made.values)]
    for name in every.levels:
        pairs.append((every.levels[name], some.levels[name]))
        pairs.append((every.knockouts[name], some.knockouts[name]))
    gaps = []
    for a, b in pairs:
        n = max(a.shape[0], b.shape[0])
        a, b = (np.pad(backend.to_host(x), (0, n - x.shape[0])) for x in (a, b))
        gaps.append(np.abs(a - b).max())
    assert max(gaps) <= some.radius + every.radius
    assert gaps[0] <= made.radius + every.spectrum.radius
    assert made.radius <= (1 + 2.0**-10) * made.left_out
    assert max(gaps) > every.radius + 2.0**-10 * made.left_out
    for name, left in every.traces.items():
        assert abs(left - some.traces[name]) <= made.left_out + 40 * some.radius


def test_rows_set_to_zero_move_levels_by_the_root_of_their_trace():
    """What is not done: class means would average over zeros in their place."""
    X = np.ones((8, 1)) * np.array([1.0] * 7 + [2.0**-8])[:, None]
    moment, zeros = (constant(x) for x in (X, X * (X == 1)))
    t = 2.0**-16
    whole, less = (
        float(refspec.spectrum(refspec.decompose(x).levels["global_mean"]).values[0])
        for x in (moment, zeros)
    )
    assert whole - less > 64 * t
    at = coordinates.dual(moment, 2.0**-6)
    assert at.radius <= 2 * t


def constant(X):
    """Rows of one class."""
    factor = Factor(X[:, None, None, :], None)
    weights = np.full((len(X), 1), 1 / len(X))
    return curvature.SecondMoment(Factors((factor,)), weights, (0, len(X)))


def test_parameters_leave_nothing_out(asarray):
    """As soon as they are the fewer coordinates: then all rows are in the matrix."""
    moment = curvature.fisher(sampled(counts=(20, 20), asarray=asarray))
    found = coordinates.coordinates(moment, leave_out=2.0**-40)
    if found.side == "primal":
        assert found.left_out == found.rows_left_out == 0
    assert coordinates.coordinates(moment, leave_out=0.75).side == "dual"


def graded(asarray):
    """Rows each half as long as the one before, some of them hardly there."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 48)) * 2.0 ** -np.arange(40)[:, None]
    factor = Factor(asarray(X[:, None, None, :]), None)
    w = asarray(np.full((40, 1), 1 / 40))
    return curvature.SecondMoment(Factors((factor,)), w, (0, 20, 40)), X


def test_errors_beside_features_that_are_zero_do_not_overflow(asarray):
    """Rows are small though a factor is huge; its square alone would be infinite."""
    snapshot = sampled()
    features, errors = (
        np.array(getattr(snapshot.layers[0], n)) for n in ("features", "errors")
    )
    features[0], errors[0] = 0.0, 1e160
    features[1], errors[1] = 1e-160 * features[1], 1e160 * errors[1]
    first = refspec.Layer("l0", asarray(1e-60 * features), asarray(1e-60 * errors))
    changed = refspec.snapshot(
        [first], snapshot.labels, probabilities=asarray(snapshot.probabilities)
    )
    at = coordinates.dual(curvature.fisher(changed))
    values = backend.to_host(refspec.spectrum(at).values)
    X = rows_of(changed)
    true = np.linalg.svd(X * 1e120, compute_uv=False) ** 2
    n = max(len(values), len(true))
    values, true = (np.pad(x, (0, n - len(x))) for x in (1e240 * values, true))
    slack = rounding.gamma(4 * n, 2.0**-53) * true.sum()
    assert np.abs(values - true).max() <= 2e240 * at.radius + slack


@pytest.mark.parametrize("side", ["primal", "dual", "certified"])
def test_weights_that_underflowed_are_in_the_radius_of_levels(side):
    """Means weigh by w = s p; where that is below the normal numbers it lost digits."""
    moment = curvature.fisher(sampled(counts=(3, 2)))
    weights = moment.weights.copy()
    weights[1, 0] = 2.0**-1030
    moment = replace(moment, weights=weights)
    sides = {"primal": coordinates.primal, "dual": coordinates.dual}
    at = (sides | {"certified": certified})[side](moment)
    lost = uncertain(moment, moment.rows, moment.trace())
    assert at.level_radius >= at.radius + lost > 2 * at.radius


def test_the_factorisation_knows_no_unit(monkeypatch):
    """Rows 2^k times as large: its numbers are 2^k, 4^k or 16^k times as large."""
    monkeypatch.setattr(factorisation, "BLOCK", 4)
    moment = curvature.fisher(sampled(counts=(5, 3, 4)))
    tolerance = float(moment.trace()) * 2.0**-20
    made = factorisation.pivoted_rows(moment.rows, tolerance, moment.xp)
    assert made.squares > 0
    for k in (-20, 20):
        rows = moment.rows.times(k)
        other = factorisation.pivoted_rows(rows, tolerance * 4.0**k, moment.xp)
        assert np.array_equal(other.L, made.L * 2.0**k)
        assert np.array_equal(other.others, made.others)
        assert other.squares == made.squares * 16.0**k


@pytest.mark.parametrize("counts", [(3, 1, 4), (1, 2)])
def test_a_proof_of_float32_is_that_of_the_same_numbers_in_float64(counts):
    """But for the weighing of the rows, which was done in float32 and is counted."""
    moment = curvature.fisher(sampled(counts=counts, dtype="float32"))
    layers = (
        Factor(*map(np.float64, (f.roots, f.features))) for f in moment.rows.layers
    )
    wide = replace(
        moment, rows=Factors(tuple(layers)), weights=np.float64(moment.weights)
    )
    one, other = certified(moment), certified(wide)
    for x, y in ((one.second, other.second), (one.means, other.means)):
        assert x.dtype == y.dtype == np.float64
        assert np.array_equal(x, y)
    assert one.radius > 2.0**20 * other.radius
