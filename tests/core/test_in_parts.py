"""However little is held at a time, the numbers are those of one piece, in radii."""

import numpy as np
import pytest

import refspec
from refspec import attribution, backend, coordinates, curvature
from refspec.attribution.depth import class_clarity, leading_clarity
from refspec.coordinates import certified, factorisation
from refspec.hessian import assembly, blocks
from support.snapshots import sampled, seen

MOMENTS = ("features", "errors", "fisher")


def moment(of, **how):
    s = sampled(counts=(3, 1, 4), sides=((3, 2), (2, 3)), **how)
    return curvature.fisher(s) if of == "fisher" else getattr(curvature, of)(s, "fc1")


def little(monkeypatch, some):
    """Hold `some` samples, columns, cells, pivots or entries at a time."""
    monkeypatch.setattr(backend, "at_a_time", lambda *_: some)
    monkeypatch.setattr(factorisation, "BLOCK", some)
    monkeypatch.setattr(certified, "_ENTRIES", some)
    monkeypatch.setattr(blocks, "BUDGET", some)
    monkeypatch.setattr(assembly, "BLOCK", some)


def alike(one, two):
    """Spectra, levels, knock-outs and traces agree within both radii."""
    radius = one.radius + two.radius
    for name in ("levels", "knockouts"):
        for level, x in getattr(one, name).items():
            y = getattr(two, name)[level]
            n = max(len(x), len(y))
            gap = np.pad(x, (0, n - len(x))) - np.pad(y, (0, n - len(y)))
            assert np.abs(gap).max(initial=0) <= radius, (name, level)
    for level, x in one.traces.items():
        assert abs(x - two.traces[level]) <= 24 * radius, level
    a, b = (backend.to_host(x.spectrum.values) for x in (one, two))
    n = max(len(a), len(b))
    gap = np.pad(a, (0, n - len(a))) - np.pad(b, (0, n - len(b)))
    assert np.abs(gap).max() <= one.spectrum.radius + two.spectrum.radius
    assert one.kinds[:2] == two.kinds[:2]


@pytest.mark.parametrize(("some", "T"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("of", MOMENTS)
def test_attribution(monkeypatch, of, T, some):
    m = moment(of, T=T)
    makers = {
        "primal": coordinates.primal,
        "dual": coordinates.dual,
        "certified": certified.certified,
    }
    whole = {n: attribution.attribute(make(m)) for n, make in makers.items()}
    top = attribution.attribute(m, top=2)
    level = refspec.decompose(m).levels["between_class"]
    whole["level"] = attribution.attribute(coordinates.primal(level))
    little(monkeypatch, some)
    for n, make in makers.items():
        alike(whole[n], attribution.attribute(make(m)))
    alike(top, attribution.attribute(m, top=2))
    for make in (coordinates.primal, coordinates.dual):
        alike(whole["level"], attribution.attribute(make(level)))


@pytest.mark.parametrize("some", [1, 3])
@pytest.mark.parametrize("part", ["hessian", "fisher", "residual"])
def test_hessian(monkeypatch, part, some):
    s = seen(0, counts=(3, 1, 4), hidden=(3, 2), kinds=("tanh", "softplus"))
    one = refspec.hessian.of_snapshot(s, part=part)
    layers = [x.name for x in s.layers][::-1]
    back = refspec.hessian.of_snapshot(s, layers, part=part)
    little(monkeypatch, some)
    network, X = refspec.models.of_snapshot(s)
    how = {"sample_weights": s.sample_weights}
    radius = refspec.hessian.hessian_radius(network, X, s.labels, **how)
    for whole, names in ((one, None), (back, layers)):
        found = refspec.hessian.of_snapshot(s, names, part=part)
        assert np.array_equal(found, found.T)
        assert np.linalg.norm(found - whole, 2) <= 2 * radius
    V = np.random.default_rng(0).standard_normal((len(one), 3))
    product = refspec.hessian.hessian_vector_product(
        network, X, s.labels, V, part=part, **how
    )
    away = np.linalg.norm(product - one @ V, axis=0)
    assert np.all(away <= 2 * radius * np.linalg.norm(V, axis=0))


@pytest.mark.parametrize("counts", [(3, 1, 4), (4, 4), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("of", ["features", "errors"])
def test_clarity_from_products_is_that_of_a_factorisation(of, counts):
    """The same eigenvalues in every ratio, each within what both say."""
    s = sampled(counts=counts, sides=((4, 3),))
    m = getattr(curvature, of)(s, "fc")
    one, two = class_clarity(m), leading_clarity(m)
    assert one.index == two.index
    for name in ("separation", "orthogonality"):
        a, b = getattr(one, name), getattr(two, name)
        assert np.isfinite(b.radius) == np.isfinite(a.radius)
        if np.isfinite(a.radius):
            assert abs(a.value - b.value) <= a.radius + b.radius < a.value / 2**16
    gap = abs(one.cosine - two.cosine)
    assert gap <= 2.0**20 * max(curvature_error(m), 2.0**-53)


def curvature_error(m):
    """What a cosine of means can be off by: the moment's error over its trace."""
    at = coordinates.primal(m)
    return at.level_radius / at.trace


def test_angles_of_the_largest_are_those_of_all():
    """Planted class means, above all else: a turn of 4 radii over the gap at most."""
    rng = np.random.default_rng(0)
    h = 4 * np.eye(3, 6)[np.repeat(np.arange(3), 4)] + rng.standard_normal((12, 6)) / 4
    layer = refspec.Layer("fc", h[:, None, :], np.zeros((12, 3, 1, 1)))
    labels, p = np.repeat(np.arange(3), 4), np.full((12, 3), 1 / 3)
    m = curvature.features(refspec.snapshot([layer], labels, probabilities=p), "fc")
    some, every = attribution.attribute(m, top=4), attribution.attribute(m)
    one, two = some.angles["outlier"], every.angles["outlier"]
    assert len(one) == len(two) == 3
    values, radius = every.spectrum.values, some.radius + every.radius
    turned = 4 * radius / (values[2] - values[3])
    # an angle is read off a cosine near 1: by the root of its error
    assert np.abs(np.cos(one) - np.cos(two)).max() <= turned + 2.0**-48
    assert np.sin(two).max() ** 2 > 2.0**-16 > turned
