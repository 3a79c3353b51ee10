from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import backend, curvature, factors, rounding, structure
from support import naive
from support.namespaces import NAMESPACES


def moment_of(values, weights, sizes, asarray=np.asarray):
    """A SecondMoment of plain vectors, K = C."""
    roots = (np.sqrt(weights)[:, :, None] * values)[:, :, None, :]
    factor = factors.Factor(asarray(roots), None)
    offsets = tuple(np.concatenate([[0], np.cumsum(sizes)]).tolist())
    return curvature.SecondMoment(factors.Factors((factor,)), asarray(weights), offsets)


@st.composite
def cases(draw):
    """Sizes, integer vectors and weights that are squares, so roots are exact."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    C, N, d = len(sizes), sum(sizes), draw(st.integers(1, 3))
    entry = st.integers(-9, 9)
    values = draw(st.lists(entry, min_size=N * C * d, max_size=N * C * d))
    roots = draw(st.lists(st.integers(0, 4), min_size=N * C, max_size=N * C))
    return (
        sizes,
        np.array(values, float).reshape(N, C, d),
        np.array(roots, float).reshape(N, C) ** 2,
    )


def exact(x):
    return [[Fraction(float(v)) for v in row] for row in np.asarray(x)]


@given(cases())
def test_levels_add_up_exactly(case):
    sizes, values, weights = case
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist()
    v, w = [exact(rows) for rows in values], exact(weights)
    parts = naive.levels(v, w, labels)
    total = naive.second_moment(v, w)
    whole = parts["diagonal"]
    for name in ("between_class", "between_cross_class", "within_cross_class"):
        whole = naive.add(whole, parts[name])
    assert whole == total


def test_means_over_every_cross_class_do_not_add_up():
    rng = np.random.default_rng(0)
    v, w = rng.integers(1, 9, (4, 2, 2)), rng.integers(1, 9, (4, 2))
    v, w = [exact(rows) for rows in v], exact(w)
    parts = naive.levels(v, w, [0, 0, 1, 1], keep_diagonal_in_means=True)
    whole = parts["diagonal"]
    for name in ("between_class", "between_cross_class", "within_cross_class"):
        whole = naive.add(whole, parts[name])
    assert whole != naive.second_moment(v, w)


@given(cases(), st.sampled_from(["numpy", "read-only", "strict"]))
def test_levels_agree_with_fractions(case, name):
    sizes, values, weights = case
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist()
    parts = naive.levels([exact(rows) for rows in values], exact(weights), labels)
    moment = moment_of(values, weights, sizes, NAMESPACES[name])
    n, C = moment.shape[0], len(sizes)
    bound = 16 * rounding.second_moment_radius(4 * n + 4 * C, moment.trace(), 2.0**-53)
    split = structure.decompose(moment)
    for level, part in split.levels.items():
        computed = backend.to_host(part.matrix())
        truth = np.array([[float(x) for x in row] for row in parts[level]])
        assert np.abs(computed - truth).max() <= bound


@pytest.mark.parametrize("C", [2, 3])
def test_two_classes_have_no_cross_level(C):
    rng = np.random.default_rng(3)
    values = rng.standard_normal((2 * C, C, 4))
    moment = moment_of(values, np.full((2 * C, C), 1 / (2 * C * C)), [2] * C)
    cross = structure.decompose(moment).levels["between_cross_class"].trace()
    bound = rounding.second_moment_radius(100, moment.trace(), 2.0**-53)
    assert (cross <= bound) == (C == 2)


def test_a_kind_is_that_of_its_levels_together_by_size():
    parts = {
        "diagonal": [0.375, 0.0, 0.5],
        "between_class": [0.25, -0.25, -1.0],
        "between_cross_class": [0.5, 0.125, 0.25],
        "within_cross_class": [0.125, 0.125, 0.25],
        "residual": [0.0, -0.5, 0.125],
    }
    parts = {name: np.array(x) for name, x in parts.items()}
    # .375 + .25 > .5: of the diagonal and the class means neither is the largest part
    assert structure.kinds(parts) == ["outlier", "residual", "outlier"]
    parts["between_class"][2] = -0.5  # the outliers' parts cancel
    assert structure.kinds(parts)[2] in ("bump", "bulk")


def test_class_means_and_masses_of_features_and_of_two_classes():
    norms, means = np.array([[1.0], [2.0]]), np.array([[[3.0]], [[10.0]]])
    classes, mass = structure.class_means(means, norms)
    assert (classes.tolist(), mass.tolist()) == ([[3.0], [5.0]], [1.0, 4.0])
    norms, means = np.array([[1.0], [2.0], [4.0]]), np.array([3.0, 10.0, 4.0])
    classes, mass = structure.class_means(means[:, None, None], norms)
    assert (classes.ravel().tolist(), mass.tolist()) == ([3.0, 5.0, 1.0], [1, 4, 16])
    norms, v = np.array([[1.0, 2.0], [4.0, 1.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    classes, mass = structure.class_means((norms * v)[:, :, None], norms)
    assert (classes.tolist(), mass.tolist()) == ([[2.0], [3.0]], [4.0, 16.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_some_at_a_time_are_all_of_them(monkeypatch, dtype):
    """Any number of cells together, in any format, which is kept."""
    rng = np.random.default_rng(0)
    values, weights = rng.standard_normal((6, 3, 4)), rng.random((6, 3))
    moment = moment_of(
        values, weights, [1, 2, 3], lambda x, **_: np.asarray(x, dtype=dtype)
    )
    norms = structure.cell_norms(moment)
    X = values * np.sqrt(weights)[:, :, None]
    sums = np.sqrt(weights)[:, :, None] * X
    parts = [sums[i:j].sum(axis=0) for i, j in ((0, 1), (1, 3), (3, 6))]
    mass = np.stack([weights[i:j].sum(axis=0) for i, j in ((0, 1), (1, 3), (3, 6))])
    Z = (np.stack(parts) / np.sqrt(mass)[:, :, None]).reshape(9, 4)
    u = rounding.unit_roundoff(norms)
    for some in (1, 4, 100):
        monkeypatch.setattr(backend, "at_a_time", lambda *_, n=some: n)
        found = structure.cell_gram(moment, norms)
        assert found.dtype == dtype
        bound = rounding.second_moment_radius(128, float((X * X).sum()), u)
        assert np.abs(found - Z @ Z.T).max() <= bound
    classes, _ = structure.class_means(
        structure.cells(moment, moment.rows.dot(np.eye(4, dtype=dtype)), norms), norms
    )
    assert classes.dtype == dtype


def test_a_projection_may_miss_by_the_rounding_of_averages_and_no_more():
    """Cells of two samples: half of all rows are means, and a little of each is moved.

    To commute up to rounding is to move no more than averages of so many terms do.
    """
    C = 10
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.5, 1, (2 * C, C))
    moment = moment_of(rng.standard_normal((2 * C, C, 3)), weights, [2] * C)
    within = structure.decompose(moment).levels["within_cross_class"].projection
    unit = np.reshape(within.unit, (C, 2, C, 1))

    def moved(z, share):
        along = (unit * z.reshape(C, 2, C, -1)).sum(axis=1)
        across = np.stack([-unit[:, 1], unit[:, 0]], axis=1) * along[:, None]
        return within(z) + share * across.reshape(z.shape)

    most = rounding.gamma(16 * (2 * C + C) + 64, 2.0**-53)
    near = replace(moment, projection=lambda z: moved(z, most))
    structure.decompose(near)
    far = replace(moment, projection=lambda z: moved(z, 2 * most))
    with pytest.raises(ValueError, match="that commutes with its levels"):
        structure.decompose(far)
