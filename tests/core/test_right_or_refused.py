"""What the core answers is right within a finite radius, at every scale, or refused."""

import itertools
import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refspec
from refspec import Layer, attribution, backend, coordinates, curvature, rounding
from refspec.coordinates import certified
from refspec.rows import Reduced, Rows, Scaled
from support import exact_levels
from support.snapshots import sampled

SIDES = {"primal": coordinates.primal, "dual": coordinates.dual}
OF = {
    "fisher": lambda s: curvature.fisher(s),
    "features": lambda s: curvature.features(s, s.layers[0].name),
    "errors": lambda s: curvature.errors(s, s.layers[0].name),
}
SCALES = {
    "float64": [1e-319, 5e-309, 1e-200, 1e-160, 1.0, 1e150, 1e300],
    "float32": [1e-43, 2e-39, 1e-30, 1.0, 1e18, 1e30],
}


@pytest.fixture(autouse=True)
def silent():
    """No answer comes with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def moved(snapshot, asarray=np.asarray, dtype=None, features=1.0, errors=1.0):
    """Return a snapshot in another namespace and format, scaled: by layer or sample."""
    most = np.finfo(dtype or float).max

    def cast(x, by=1.0):
        with np.errstate(all="ignore"):
            return asarray(np.clip(by * x, -most, most).astype(dtype or x.dtype))

    layers = [
        Layer(x.name, cast(x.features, features), cast(x.errors, errors))
        for x in snapshot.layers
    ]
    p, s = snapshot.probabilities, snapshot.sample_weights
    return refspec.snapshot(
        layers, snapshot.labels, probabilities=cast(p), sample_weights=cast(s)
    )


def assert_right_or_refused(snapshot, given, of, side, certify=False, level=None):
    """Compare all spectra of `given` with those of the same numbers on the host."""
    x, w = exact_levels.vectors(snapshot, of, snapshot.layers[0].name)
    true = exact_levels.levels(x, w, snapshot.offsets)
    size = exact_levels.trace(true["total"])
    moment = OF[of](given)
    if level is not None:
        moment = refspec.decompose(moment).levels[level]
        none = [[0 * v for v in row] for row in true["total"][:1]]
        true = {n: true[level] if n in ("total", level) else none for n in true}
    try:
        sure = certify and moment.projection is None
        at = certified.certified(moment) if sure else SIDES[side](moment)
    except ValueError as error:
        said = str(error)
        assert "divide the features or errors by 2^" in said
        return None
    whole = refspec.spectrum(at, certify=certify)
    found = refspec.attribute(at, certify=certify)
    asked = {"whole": (whole.values, true["total"], whole.radius)}
    for n in found.levels:
        others = [v for m, v in true.items() if m not in ("total", n)]
        rest = list(itertools.chain(*others))
        asked[n] = found.levels[n], true[n], found.radius
        asked[f"without {n}"] = found.knockouts[n], rest, found.radius
    for n, (values, rows, radius) in asked.items():
        assert np.isfinite(radius)
        values = backend.to_host(values)
        assert exact_levels.away(values, rows, radius, size) <= 1, n
    assert_consistent(found)
    return found


def assert_consistent(found):
    """Lengths agree, shares of every listed eigenvalue sum to 1, all is finite."""
    r = len(found.kinds)
    assert {len(x) for x in found.shares.values()} == {r}
    assert len(found.proved) == len(found.lower) == len(found.upper) == r
    if r:
        u = rounding.unit_roundoff(np.zeros(0, next(iter(found.shares.values())).dtype))
        total = sum(found.shares.values())
        assert np.abs(total - 1).max() <= rounding.gamma(2 * len(found.shares), u)
    host = [*found.levels.values(), *found.knockouts.values(), *found.shares.values()]
    assert all(np.isfinite(x).all() for x in host)
    assert all(np.isfinite(x) for x in found.traces.values())


@pytest.mark.parametrize("side", sorted(SIDES))
@pytest.mark.parametrize("of", sorted(OF))
def test_a_level_is_a_second_moment_like_any_other(asarray, of, side):
    """A projected moment: spectrum, attribution, both coordinates, certified or not."""
    snapshot = sampled(counts=(2, 1, 1), T=2, sides=((2, 2), (2, 1)))
    given = moved(snapshot, asarray)
    for level in refspec.decompose(OF[of](given)).levels:
        for certify in (False, True):
            found = assert_right_or_refused(snapshot, given, of, side, certify, level)
            assert found is not None


@pytest.mark.parametrize("of", sorted(OF))
def test_the_levels_of_a_level_are_itself_and_nothing(of):
    split = refspec.decompose(OF[of](sampled(counts=(2, 1, 1))))
    for level, part in split.levels.items():
        again = refspec.decompose(part)
        u, size = 2.0**-53, split.total.trace()
        bound = rounding.second_moment_radius(8 * sum(part.shape) + 64, size, u)
        for other, x in again.levels.items():
            expected = part.matrix() if other == level else 0.0
            assert np.abs(x.matrix() - expected).max() <= bound


@pytest.mark.parametrize("side", sorted(SIDES))
@pytest.mark.parametrize("dtype", sorted(SCALES))
def test_every_scale_is_right_or_refused(dtype, side):
    answered = []
    snapshot = sampled(counts=(2, 1), T=2, sides=((2, 2), (1, 2)))
    for h, e in itertools.product(SCALES[dtype], repeat=2):
        host = moved(snapshot, dtype=dtype, features=h, errors=e)
        for of in OF:
            found = assert_right_or_refused(host, host, of, side)
            answered.append((of, h, e)) if found is not None else None
    assert ("fisher", 1.0, 1.0) in answered
    least, *_, largest = SCALES[dtype]
    assert ("fisher", largest, largest) not in answered
    assert ("fisher", least, largest) in answered
    assert ("fisher", largest, least) in answered


@pytest.mark.parametrize("side", sorted(SIDES))
@pytest.mark.parametrize("dtype", sorted(SCALES))
def test_samples_and_layers_of_every_scale_in_one_snapshot(asarray, dtype, side):
    """One layer tiny, one huge; a dead sample of huge features."""
    least, *_, largest = SCALES[dtype]
    by = np.asarray([largest, largest, 1.0])[:, None, None]
    dead = np.asarray([0.0, 1.0, 1.0])[:, None, None, None]
    rows = {
        "layers": (least, 1.0, largest**0.4, 1.0),
        "samples": (by, least / by[..., None], by, least / by[..., None]),
        "dead": (by, least * dead, 1 / by, least * dead),
    }
    snapshot = sampled(counts=(2, 1), T=2, sides=((2, 2), (1, 2)))
    for h, e, more, others in rows.values():
        one, two = (
            moved(snapshot, dtype=dtype, features=f, errors=g)
            for f, g in ((h, e), (more, others))
        )
        host = refspec.snapshot(
            [one.layers[0], two.layers[1]],
            one.labels,
            probabilities=one.probabilities,
            sample_weights=one.sample_weights,
        )
        for of in OF:
            assert_right_or_refused(host, moved(host, asarray), of, side)


@st.composite
def harsh(draw):
    """Small snapshots: sizes that differ by layer and sample, terms that cancel."""
    dtype = draw(st.sampled_from(sorted(SCALES)))
    seed, T = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 3))
    sizes = draw(st.sampled_from([(1, 1), (2, 1), (1, 1, 1), (1, 2, 1), (3, 1)]))
    dims = draw(st.lists(st.tuples(*2 * [st.integers(1, 3)]), min_size=1, max_size=2))
    snapshot, rng = (
        sampled(seed, sizes, dims, T),
        np.random.default_rng(seed),
    )
    N, C = snapshot.probabilities.shape
    power = draw(st.sampled_from([0, 0, 5, 75, 150, 320]))
    power = power if dtype == "float64" else power // 8
    layers = []
    for x in snapshot.layers:
        h, e = x.features, x.errors
        if draw(st.booleans()):  # the positions cancel, all but a little
            h = h[:, :1] * (
                1 + 10.0 ** rng.uniform(-16, 0) * rng.standard_normal(h.shape)
            )
            e = e * (-1.0) ** np.arange(T)[:, None]
        by = 10.0 ** rng.uniform(-power, min(power, 308), (2, N))
        dead = draw(
            st.sampled_from(["no", "no", "no", "features", "errors", "a sample"])
        )
        by[0] *= dead != "features"
        by[1] *= dead != "errors"
        by[:, 0] *= dead != "a sample"
        shape = (N, 1, 1)
        one = refspec.snapshot(
            [Layer(x.name, h, e)], snapshot.labels, probabilities=snapshot.probabilities
        )
        h, e = by[0].reshape(shape), by[1].reshape(*shape, 1)
        layers += moved(one, dtype=dtype, features=h, errors=e).layers
    p = snapshot.probabilities.copy()
    if draw(st.booleans()):
        p[0] = np.eye(C)[0]
        p[0, 1] = 6e-320
    s = rng.uniform(0.5, 1.5, N)
    if draw(st.booleans()):
        s[0] = 0
    p, s = p.astype(dtype), (s / s.sum()).astype(dtype)
    return refspec.snapshot(
        layers, snapshot.labels, probabilities=p, sample_weights=s / s.sum()
    )


@given(
    harsh(), st.sampled_from(sorted(OF)), st.sampled_from(sorted(SIDES)), st.booleans()
)
def test_no_error_exceeds_its_radius(snapshot, of, side, certify):
    assert_right_or_refused(snapshot, snapshot, of, side, certify)


@pytest.mark.parametrize("budget", [0, 2**28])
@pytest.mark.parametrize(("centre", "spread"), [(1000, 0.01), (255, 0.1), (1e9, 1e-4)])
@pytest.mark.parametrize("a", [1, 3])
def test_positions_that_cancel_are_as_uncertain_as_their_terms(
    monkeypatch, asarray, budget, centre, spread, a
):
    """As a convolution on raw pixels; also where rows are not multiplied out."""
    monkeypatch.setattr("refspec.ways._EXPLICIT", budget)
    rng = np.random.default_rng(a)
    h = centre + spread * rng.standard_normal((4, 2, a))
    d = rng.standard_normal((4, 2, 1, 1))
    layer = Layer("fc1", h, np.concatenate([d, -d], axis=2))
    half = np.full((4, 2), 0.5)
    snapshot = refspec.snapshot([layer], [0, 0, 1, 1], probabilities=half)
    for side, certify in itertools.product(SIDES, (False, True)):
        given = moved(snapshot, asarray)
        assert assert_right_or_refused(snapshot, given, "fisher", side, certify)


@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("side", sorted(SIDES))
def test_one_parameter_is_one_fraction(side, certify):
    rng = np.random.default_rng(0)
    h, d = (
        1000 + 0.01 * rng.standard_normal((4, 2, 1)),
        rng.standard_normal((4, 2, 1, 1)),
    )
    e = np.concatenate([d, -d], axis=2)
    layer, half = Layer("conv", h, e), np.full((4, 2), 0.5)
    s = refspec.snapshot([layer], [0, 1, 0, 1], probabilities=half)
    h, e = s.layers[0].features, s.layers[0].errors
    terms = [
        [Fraction(e[i, k, t, 0]) * Fraction(h[i, t, 0]) for t in range(2)]
        for i, k in itertools.product(range(4), range(2))
    ]
    exact = sum(sum(x) ** 2 for x in terms) / 8
    moment = curvature.fisher(s)
    found = refspec.spectrum(
        moment if certify else SIDES[side](moment), certify=certify
    )
    assert abs(Fraction(float(found.values[0])) - exact) <= Fraction(found.radius)


@pytest.mark.parametrize("side", sorted(SIDES))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_nothing_cancels_the_radius_is_rounding(side, dtype):
    """Not inf, and not much: some hundred roundings of the trace."""
    moment = curvature.fisher(moved(sampled(counts=(2, 2, 2), T=2), dtype=dtype))
    at = SIDES[side](moment)
    u, trace = rounding.unit_roundoff(moment.weights), moment.trace()
    n = sum(moment.shape)
    for radius in (refspec.spectrum(at).radius, refspec.attribute(at).radius):
        assert radius <= 16 * n * u * trace
    for level in refspec.decompose(moment).levels.values():
        assert refspec.attribute(SIDES[side](level)).radius <= 128 * n * u * trace


EDGES = {
    "two classes, one sample each": {"counts": (1, 1), "sides": ((2, 2), (2, 1))},
    "one sample a class": {"counts": (1, 1, 1, 1)},
    "N < d": {"counts": (1, 2), "sides": ((6, 5), (5, 2))},
    "d < C": {"counts": (1, 1, 1, 1), "sides": ((1, 1),)},
    "positions": {"counts": (2, 1), "T": 3},
}


@pytest.mark.parametrize("edge", sorted(EDGES))
@pytest.mark.parametrize("dead", ["nothing", "features", "errors", "all"])
def test_small_and_dead_networks_are_answered(edge, dead):
    """One layer dead, or all: the Fisher is 0 and has no eigenvalue to explain."""
    snapshot = sampled(**EDGES[edge])
    first, *rest = snapshot.layers
    features = first.features * (dead not in ("features", "all"))
    errors = first.errors * (dead not in ("errors", "all"))
    rest = [Layer(x.name, x.features, x.errors * (dead != "all")) for x in rest]
    s = refspec.snapshot(
        [Layer("fc1", features, errors), *rest],
        snapshot.labels,
        probabilities=snapshot.probabilities,
    )
    for of, side in itertools.product(OF, SIDES):
        found = assert_right_or_refused(s, s, of, side)
        assert found is not None
        if dead == "all" and of != "features":
            assert found.kinds == []
            assert set(found.traces.values()) == {0.0}


def test_a_weight_that_underflows_is_seen_in_the_radius(asarray):
    """A probability of 6e-320 has no class mean to speak of if its errors are big."""
    snapshot = sampled(counts=(2, 2), T=1, sides=((2, 2),))
    p, e = snapshot.probabilities.copy(), snapshot.layers[0].errors.copy()
    p[:, 0], p[:, 1] = 1.0, [6e-320, 1e-321, 3e-318, 5e-324]
    for size in (1.0, 1e100, 1e159):
        errors = e * np.asarray([1.0, size])[:, None, None]
        layer = Layer("fc1", snapshot.layers[0].features, errors)
        s = refspec.snapshot([layer], snapshot.labels, probabilities=p)
        for side in SIDES:
            found = assert_right_or_refused(s, moved(s, asarray), "fisher", side)
            if size == 1.0:
                assert found.radius <= 1e-9 * sum(found.traces.values())


@dataclass(frozen=True, slots=True, eq=False)
class Plain(Rows):
    """Rows as an array: the least that a kind of rows must know."""

    array: object

    @property
    def shape(self):
        return tuple(self.array.shape)

    @property
    def like(self):
        return self.array

    def dot(self, V):
        N, K, P = self.shape
        flat = self.xp.reshape(self.array, (N * K, P)) @ V
        return self.xp.reshape(flat, (N, K, V.shape[1]))

    def cross(self, Z):
        N, K, P = self.shape
        flat = self.xp.reshape(self.array, (N * K, P))
        return self.xp.matrix_transpose(flat) @ self.xp.reshape(Z, (N * K, Z.shape[2]))

    def part(self, i, j):
        return Plain(self.array[i:j, ...])


def kinds_of_rows(moment):
    """Return plain, scaled and reduced rows beside the factors they equal."""
    xp, (N, K, P) = moment.xp, moment.rows.shape
    every = xp.arange(N * K, device=backend.device(moment.weights))
    plain = Plain(xp.reshape(moment.rows.take(every), (N, K, P)))
    unit = curvature.unit_weights(moment)
    fewer = moment.rows.reduced(unit, moment.offsets)
    return {
        "plain": (plain, moment.rows),
        "scaled": (Scaled(plain.times(3), -3), moment.rows),
        "reduced": (Reduced(plain, unit, moment.offsets), fewer),
    }


@pytest.mark.parametrize("T", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "scaled", "reduced"])
def test_every_kind_of_rows_does_what_factors_do(monkeypatch, asarray, kind, T):
    """The default methods of `Rows` need dot, cross and part only."""
    monkeypatch.setattr(backend, "_TEMPORARY", 8 * 40)
    moment = curvature.fisher(sampled(asarray=asarray, T=T, counts=(3, 2, 2)))
    rows, factors = kinds_of_rows(moment)[kind]
    assert rows.shape == factors.shape
    N, K, P = rows.shape
    rng, host = np.random.default_rng(0), backend.to_host
    V, Z = rng.standard_normal((P, 3)), rng.standard_normal((N, K, 2))
    index = asarray(np.asarray([5, 0, N * K - 1]))
    size = moment.trace()
    bound = 8 * rounding.second_moment_radius(N * K + P + 64, size, 2.0**-53)
    line = bound / size**0.5  # of what is linear in the rows

    def close(f, most):
        gap = np.abs(host(f(rows)) - host(f(factors))).max()
        return gap <= most

    assert close(lambda r: r.dot(asarray(V)), line * np.linalg.norm(V))
    assert close(lambda r: r.cross(asarray(Z)), line * np.linalg.norm(Z))
    assert close(lambda r: r.take(index), line)
    assert close(lambda r: r.gram(index), bound)
    assert close(lambda r: r.gram(index, 2), bound)
    assert close(lambda r: r.outer(), bound)
    assert close(lambda r: r.squares(), bound)
    assert close(lambda r: r.second(), bound)
    assert close(lambda r: backend.concatenate(r.chunks()), line)
    assert close(lambda r: backend.concatenate(r.columns(), axis=2), line)
    assert close(lambda r: r.part(1, 4).dot(asarray(V)), line * np.linalg.norm(V))
    assert close(lambda r: r.times(-2).squares() * 16, bound)


@pytest.mark.parametrize("side", sorted(SIDES))
@pytest.mark.parametrize("kind", ["plain", "scaled"])
@pytest.mark.parametrize("size", [1.0, 1e-200, 1e200])
def test_attribution_needs_no_factors(asarray, kind, side, size):
    snapshot = sampled(counts=(2, 1, 2))
    given = moved(snapshot, asarray, features=size)
    moment = curvature.fisher(given)
    if size == 1.0:
        rows = kinds_of_rows(moment)[kind][0]
        changed = curvature.SecondMoment(
            rows, moment.weights, moment.offsets, moment.scored
        )
        found = refspec.attribute(SIDES[side](changed))
        true = refspec.attribute(SIDES[side](moment))
        radius = found.radius + true.radius
        for n in true.levels:
            pair = found.levels[n], true.levels[n]
            r = max(map(len, pair))
            mine, other = (np.pad(x, (0, r - len(x))) for x in pair)
            assert np.abs(mine - other).max() <= radius
        return
    xp, (N, K, P) = moment.xp, moment.rows.shape
    every = xp.arange(N * K, device=backend.device(moment.weights))
    rows = Plain(xp.reshape(moment.rows.take(every), (N, K, P)))
    rows = rows if kind == "plain" else rows.times(1)
    changed = curvature.SecondMoment(rows, moment.weights, moment.offsets)
    if size > 1:
        with pytest.raises(ValueError, match=r"divide the features or errors by 2\^"):
            refspec.attribute(SIDES[side](changed))
    else:
        found = refspec.attribute(SIDES[side](changed))
        assert 0 < found.radius <= np.finfo(float).tiny
        assert all(
            np.abs(x).max(initial=0) <= found.radius for x in found.levels.values()
        )


def test_bounded_numbers_may_be_unknown_but_not_nan_wide():
    assert refspec.Bounded(1.0, np.inf).radius == np.inf
    assert np.isnan(refspec.Bounded(np.nan, np.inf).value)
    for radius in (np.nan, -1.0):
        with pytest.raises(ValueError, match="radius must be >= 0"):
            refspec.Bounded(1.0, radius)


def test_clarity_of_dead_layers_is_unknown_not_wrong():
    snapshot = sampled(counts=(2, 1, 1))
    layer = Layer("fc1", 0 * snapshot.layers[0].features, 0 * snapshot.layers[0].errors)
    s = refspec.snapshot(
        [layer, *snapshot.layers[1:]],
        snapshot.labels,
        probabilities=snapshot.probabilities,
    )
    for of in ("features", "errors"):
        found = attribution.depth_profile(s, of)["fc1"]
        assert found.separation.radius == found.orthogonality.radius == np.inf
        assert np.isnan(found.cosine)
