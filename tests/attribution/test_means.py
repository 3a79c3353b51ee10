"""Class means as points, and how clear the class structure is, against plain loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refspec
from refspec import attribution, curvature, rounding
from refspec.attribution import depth
from refspec.attribution.depth import mean_cosine
from support.snapshots import sampled, seeds


def loop_means(snapshot, of):
    """Class means and cells by the definition, in loops over float64."""
    layer, C = snapshot.layers[0], snapshot.probabilities.shape[1]
    x = layer.features if of == "features" else layer.errors
    x = (
        x.reshape(x.shape[0], -1)[:, None]
        if of == "features"
        else x.reshape(len(x), C, -1)
    )
    x = np.asarray(x, np.float64)
    K, w = x.shape[1], np.asarray(snapshot.sample_weights, np.float64)[:, None]
    w = w * (np.asarray(snapshot.probabilities, np.float64) if K > 1 else 1)
    cells, classes = {}, {}
    for c in range(C):
        mine = np.flatnonzero(snapshot.labels == c)
        sums, total = 0, 0
        for k in range(K):
            mass = sum(w[i, k] for i in mine)
            point = sum(w[i, k] * x[i, k] for i in mine) / (mass or 1)
            cells[c, k] = point, mass
            if K == 1 or k != c:
                sums, total = sums + mass * point, total + mass
        classes[c] = sums / (total or 1), total
    return classes, cells


@given(seeds, st.sampled_from(["features", "errors"]), st.sampled_from([4, 40]))
def test_distances_are_those_of_the_definition(seed, of, a):
    s = sampled(seed, (3, 1, 2), [(a, a)], equal=True)
    moment = getattr(curvature, of)(s, "fc")
    found, points = attribution.distances(attribution.class_means(moment))
    classes, cells = loop_means(s, of)
    vectors = [(classes if k < 0 else cells)[c if k < 0 else (c, k)] for c, k in points]
    x = np.stack([v for v, _ in vectors])
    exact = np.linalg.norm(x[:, None] - x[None], axis=2)
    # squares are known to the moment's error over the smallest mass, twice two points
    at = refspec.coordinates.coordinates(moment)
    low = min(m for _, m in vectors)
    squares = 8 * (
        at.radius / low
        + rounding.gamma(4 * moment.shape[0] + a, 2.0**-53) * (x**2).sum(1).max()
    )
    assert np.abs(found**2 - exact**2).max() <= squares
    # a mutant: squared distances in place of distances are not these
    assert np.abs((found**2) ** 2 - exact**2).max() > squares


@pytest.mark.parametrize("of", ["features", "errors"])
def test_masses_are_those_of_the_definition(of):
    s = sampled(7, (3, 1, 2), [(4, 3)])
    found = attribution.class_means(getattr(curvature, of)(s, "fc"))
    classes, cells = loop_means(s, of)
    bound = rounding.gamma(64, 2.0**-53)
    for c, (_, mass) in classes.items():
        assert abs(found.class_mass[c] - mass) <= bound
    for (c, k), (_, mass) in cells.items():
        assert abs(found.cell_mass[c, k] - mass) <= bound * mass


@given(seeds, st.integers(1, 8))
def test_scaling_is_exact_in_the_plane(seed, M):
    x = np.random.default_rng(seed).standard_normal((M, 2))
    matrix = np.linalg.norm(x[:, None] - x[None], axis=2)
    points, kept = attribution.means.classical_scaling(matrix)
    found = np.linalg.norm(points[:, None] - points[None], axis=2)
    size = float((matrix**2).sum()) + 1
    bound = rounding.gamma(8 * M * M + 64, 2.0**-53) * size
    assert np.abs(found**2 - matrix**2).max() <= bound
    assert 1 - kept <= bound / max(float((matrix**2).max()), 2.0**-53)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("of", ["features", "errors"])
@pytest.mark.parametrize("sizes", [(3, 1, 2), (4, 4), (1, 1, 1, 1)])
def test_clarity_is_that_of_the_definition(of, sizes, dtype):
    s = sampled(7, sizes, [(4, 3)], equal=True, dtype=dtype)
    found = attribution.depth_profile(s, of)["fc"]
    classes, cells = loop_means(s, of)
    d = len(classes[0][0])
    second = sum(m * np.outer(v, v) for v, m in classes.values())
    layer, C = s.layers[0], len(sizes)
    x = np.asarray(layer.features if of == "features" else layer.errors, np.float64)
    x = x.reshape(len(x), -1, d)
    w = np.asarray(s.sample_weights, np.float64)[:, None]
    w = w * (np.asarray(s.probabilities, np.float64) if of == "errors" else 1)
    within = sum(
        w[i, k] * np.outer(x[i, k] - cells[c, k][0], x[i, k] - cells[c, k][0])
        for i, c in enumerate(s.labels)
        for k in range(x.shape[1])
    )
    values = np.linalg.eigvalsh(second)[::-1]
    inner = np.linalg.eigvalsh(within)[-1]
    # exact at this end to a few roundings of float64, far inside the radius
    slack = rounding.gamma(64 * x.size, 2.0**-53) * float((w[:, :, None] * x**2).sum())
    m = found.index
    assert m in (min(C, d), min(C, d) - 1)
    for ratio, top, bottom in (
        (found.separation, values[m - 1], inner),
        (found.orthogonality, values[min(2, m) - 1], values[m - 1]),
    ):
        if math.isfinite(ratio.radius):
            assert (
                abs(ratio.value - top / bottom)
                <= ratio.radius + slack * (1 + top / bottom) / bottom
            )
        else:
            assert bottom <= slack + 16 * curvature_radius(s, of)


def curvature_radius(s, of):
    return attribution.eigenbasis(getattr(curvature, of)(s, "fc")).radius


def test_errors_of_the_last_layer_count_one_class_less():
    s = refspec.datasets.digits_mlp()
    found = attribution.depth_profile(s, "errors")
    assert [x.index for x in found.values()] == [10, 10, 9]
    assert found["fc3"].separation.value - found["fc3"].separation.radius > 1


def test_equiangular_means_have_the_cosine_of_a_simplex():
    C = 5
    simplex = np.eye(C) - 1 / C
    means = attribution.Means(
        simplex, np.full(C, 1 / C), simplex[:, None], np.ones((C, 1))
    )
    assert abs(mean_cosine(means) - 1 / (C - 1)) <= rounding.gamma(8 * C, 2.0**-53)
    flat = attribution.Means(
        np.ones((C, 2)), np.ones(C), np.ones((C, 1, 2)), np.ones((C, 1))
    )
    assert math.isnan(mean_cosine(flat))


def test_cosines_are_about_the_mean_of_all_samples():
    """Classes of unequal mass: about their plain mean the three would be equal."""
    points, mass = np.eye(3), np.array([0.5, 0.25, 0.25])
    means = attribution.Means(points, mass, points[:, None], mass[:, None])
    x = points - mass @ points
    x = x / np.linalg.norm(x, axis=1)[:, None]
    expected = (abs(x[0] @ x[1]) + abs(x[0] @ x[2]) + abs(x[1] @ x[2])) / 3
    assert abs(mean_cosine(means) - expected) <= rounding.gamma(32, 2.0**-53)
    plain = np.abs(points[0] - 1 / 3) @ np.abs(points[1] - 1 / 3)
    assert abs(expected - plain) > rounding.gamma(32, 2.0**-53)


def test_a_ratio_holds_whatever_its_radii_allow():
    found = depth._ratio(3.0, 0.5, 2.0, 0.5)
    assert found.value == 1.5
    slack = rounding.gamma(4, 2.0**-53) * found.radius
    for a, b in ((3.5, 1.5), (2.5, 2.5)):
        assert abs(a / b - found.value) <= found.radius + slack
    # and no more than that: the upper corner is reached
    assert found.radius <= 3.5 / 1.5 - 1.5 + slack
    assert depth._ratio(1.0, 0.0, 0.25, 0.25).radius == math.inf


@given(seeds, st.integers(2, 6))
def test_the_largest_coordinate_on_an_axis_is_positive(seed, M):
    x = np.random.default_rng(seed).standard_normal((M, 2))
    matrix = np.linalg.norm(x[:, None] - x[None], axis=2)
    points, _ = attribution.means.classical_scaling(matrix)
    assert (points.max(axis=0) >= -points.min(axis=0)).all()


def test_a_class_without_weight_has_no_point():
    s = sampled(3, (1, 2, 2), [(4, 3)], equal=True, empty=0)
    for of in ("features", "errors"):
        found = attribution.class_means(getattr(curvature, of)(s, "fc"))
        matrix, points = attribution.distances(found)
        assert 0 not in points[:, 0]
        assert np.isfinite(matrix).all()


def test_wrong_choices_are_refused():
    s = sampled(0, (3, 1, 2), [(4, 3)])
    means = attribution.class_means(curvature.features(s, "fc"))
    with pytest.raises(ValueError, match=r"0\.\.2"):
        attribution.distances(means, [5])
    with pytest.raises(ValueError, match="features"):
        attribution.depth_profile(s, "weights")


@pytest.mark.parametrize("counts", [(3, 2), (3, 1, 2)])
def test_every_mean_with_mass_has_a_point(counts):
    """Of two classes, too, cross-class means; of some classes, those of these alone."""
    s = sampled(0, counts, [(4, 3)])
    C = len(counts)
    found = attribution.class_means(curvature.errors(s, "fc"))
    matrix, points = attribution.distances(found)
    every = [(c, -1) for c in range(C)] + [(c, k) for c in range(C) for k in range(C)]
    assert sorted(map(tuple, points.tolist())) == sorted(every)
    some = [0, C - 1]
    fewer, few = attribution.distances(found, some)
    assert {*few[:, 0], *few[:, 1]} == {-1, *some}
    assert len(few) == 2 + 4
    at = [points.tolist().index(x) for x in few.tolist()]
    # squares of distances, from the same points about another centre
    gap = np.abs(fewer**2 - matrix[np.ix_(at, at)] ** 2).max()
    size = float((found.cells**2).sum(axis=2).max() + (found.classes**2).sum(1).max())
    assert gap <= 16 * rounding.gamma(4 * found.cells.shape[2] + 32, 2.0**-53) * size


def test_what_scaling_keeps_does_not_depend_on_the_unit():
    """A regular tetrahedron: a plane keeps two of its three equal axes."""
    for power in (-40, 0, 40):
        matrix = np.ldexp(np.ones((4, 4)) - np.eye(4), power)
        _, kept = attribution.means.classical_scaling(matrix)
        assert abs(kept - 2 / 3) <= rounding.gamma(256, 2.0**-53)
    assert attribution.means.classical_scaling(np.zeros((3, 3)))[1] == 1


def test_a_ratio_of_what_is_not_resolved_is_still_said():
    for b, value in ((0.25, 4.0), (0.0, math.inf)):
        found = depth._ratio(1.0, 0.0, b, b)
        assert (found.value, found.radius) == (value, math.inf)


def test_one_mean_is_counted_even_if_it_vanishes():
    """Opposite samples in each class: no class mean, and one coordinate."""
    h = np.array([1.0, -1.0, 1.0, -1.0])[:, None, None]
    layer = refspec.Layer("fc", h, np.zeros((4, 2, 1, 1)))
    s = refspec.snapshot([layer], [0, 0, 1, 1], probabilities=np.full((4, 2), 0.5))
    found = attribution.depth_profile(s)["fc"]  # of features, where nothing is said
    assert found.index == 1
    assert found.separation.value <= found.separation.radius
    assert found.orthogonality.radius == math.inf


def test_means_in_a_plane_are_counted_one_class_less():
    """The fourth class mean is the sum of the others, to the bit; nothing else is."""
    mean = np.concatenate([np.eye(3), np.ones((1, 3))])
    signs = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) / 4
    h = np.concatenate([np.repeat(mean, 4, axis=0), np.tile(signs, (4, 1))], axis=1)
    layer = refspec.Layer("fc", h[:, None, :], np.zeros((16, 4, 1, 1)))
    labels, p = np.repeat(np.arange(4), 4), np.full((16, 4), 0.25)
    s = refspec.snapshot([layer], labels, probabilities=p)
    found = attribution.depth_profile(s)["fc"]
    assert found.index == 3
    values = np.linalg.eigvalsh(mean.T @ mean / 4)[::-1]
    for ratio, true in (
        (found.separation, values[2] * 16),
        (found.orthogonality, values[1] / values[2]),
    ):
        slack = rounding.gamma(64, 2.0**-53) * true
        assert abs(ratio.value - true) <= ratio.radius + slack < true / 2


def test_distances_keep_their_digits_far_from_the_origin():
    """Whole numbers, so that moving all points far away changes none of them."""
    found = attribution.class_means(curvature.errors(sampled(), "fc1"))
    rng = np.random.default_rng(0)
    classes, cells = (
        rng.integers(-9, 10, x.shape).astype(float)
        for x in (found.classes, found.cells)
    )
    away = 2.0**40
    near = attribution.distances(replace(found, classes=classes, cells=cells))[0]
    far = replace(found, classes=classes + away, cells=cells + away)
    gap = np.abs(attribution.distances(far)[0] ** 2 - near**2).max()
    size = classes.shape[-1] * 20.0**2  # of a point about the mean of all, squared
    assert gap <= 8 * rounding.gamma(classes.shape[-1] + 8, 2.0**-53) * size
