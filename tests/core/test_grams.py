"""One Gram matrix that is held, of C - 1 rows a sample, against all rows."""

from dataclasses import replace

import numpy as np
import pytest

import refspec
from refspec import backend, datasets, grams, leading, rounding
from refspec.factors import Factor, Factors
from refspec.grams import WithGram, held
from support.snapshots import typical

U = 2.0**-53


def wide():
    """Return a moment of more parameters than rows."""
    m = refspec.fisher(typical())
    rng, N = np.random.default_rng(0), m.rows.shape[0]
    f = Factor(np.array(m.rows.layers[-1].roots), rng.standard_normal((N, 1, 60)))
    return replace(m, rows=Factors((*m.rows.layers, f)))


def explicit(rows):
    return np.concatenate([backend.to_host(x) for x in rows.chunks()])


@pytest.mark.parametrize("power", [0, -3, 40])
def test_what_is_held_is_of_fewer_rows_and_answers_for_all(power):
    """Products, lengths, chosen rows and the trace; scaled, without a second matrix."""
    m = refspec.fisher(typical())
    made = held(m)
    N, K, _ = m.rows.shape
    assert made.held.shape == (N * (K - 1), N * (K - 1))
    one, two, up = m.rows.times(power), made.times(power), 4.0**power
    assert two.held is made.held
    X = explicit(m.rows)
    G, trace = X @ X.T * up, float(np.sum(X * X))
    limit = up * (rounding.second_moment_radius(4 * N * K, trace, U) + made.off)
    z = np.random.default_rng(0).standard_normal((N, K, 2))
    off = two.gram_times(z).reshape(N * K, 2) - G @ z.reshape(N * K, 2)
    assert np.linalg.norm(off) <= limit * np.linalg.norm(z)
    assert np.max(np.abs(two.squares().ravel() - np.diag(G))) <= limit
    index = np.array([N * K - 1, 0, 5])
    assert np.max(np.abs(two.gram(index, 2) - G[index, 2 * K :])) <= limit
    assert abs(two.trace() - one.trace()) <= N * K * limit
    assert two.off == made.off * up
    assert two.forming() == made.forming() * 2.0**power >= one.forming()
    assert two.products > one.roundings + len(made.held)
    assert not np.linalg.norm(off) <= 0


@pytest.mark.parametrize("lost", [None, 1e-3])
def test_layers_that_are_sums_are_taken_one_by_one(lost):
    """Their matrices add up to the whole one, and their errors to that of the whole."""
    m = wide()
    rng, (N, K, _) = np.random.default_rng(0), m.rows.shape
    sums = (
        Factor(rng.standard_normal((N, K, 3, 2)), rng.standard_normal((N, 3, 4)))
        for _ in range(2)
    )
    rows = Factors((*m.rows.layers, *sums), lost)
    m = replace(m, rows=rows, scored=False)
    parts = list(rows.by_columns(None, m.offsets))
    assert [len(some.layers) for some in parts] == [len(rows.layers) - 2, 1, 1]
    made, X = held(m), explicit(rows)
    limit = rounding.second_moment_radius(4 * X.shape[1], float(np.sum(X * X)), U)
    assert np.max(np.abs(made.held - X @ X.T)) <= limit
    assert abs(made.forming() / rows.forming() - 1) <= 4 * U
    unit = np.full((N, K), K**-0.5)
    apart = rows.by_columns(unit, m.offsets)
    errors = np.linalg.norm([some.forming() for some in apart])
    whole = rows.reduced(unit, m.offsets).forming()
    assert whole * (1 - 16 * U) <= errors * 2**0.5
    assert errors <= whole * (1 + 16 * U)


def test_scores_that_count_are_kept():
    """The rows of a class moved: C - 1 of them are no longer enough, and are not held.

    Held all the same, they are off by no more than 2 ||X|| ||tau||, and by more than
    rounding is.
    """
    m = refspec.fisher(typical())
    (f, *others) = m.rows.layers
    roots = np.array(f.roots)
    roots[:, 0] *= 1 + 2.0**-12
    moved = replace(m, rows=Factors((Factor(roots, f.features), *others)))
    N, K, _ = m.rows.shape
    assert held(moved).unit is None
    assert held(moved).held.shape == (N * K, N * K)
    fewer = refspec.curvature.score_reduced(moved)
    dropped = refspec.curvature.scores(moved)
    unit = refspec.curvature.unit_weights(moved)
    wrong = WithGram(moved.rows, fewer.outer(), unit=unit, offsets=m.offsets)
    X = explicit(moved.rows)
    every = np.eye(N * K).reshape(N, K, -1)
    off = wrong.gram_times(every).reshape(N * K, -1) - X @ X.T
    most = 2 * np.linalg.norm(X, 2) * dropped**0.5
    rounded = rounding.second_moment_radius(4 * N * K, float(np.sum(X * X)), U)
    assert rounded < np.linalg.norm(off, 2) <= most + rounded


def test_scores_that_are_rounding_are_in_the_radius(monkeypatch):
    """What is left out of them is said, and nothing where there are none."""
    m = refspec.fisher(typical())
    made = held(m)
    dropped = refspec.curvature.scores(m)
    assert made.apart == 2 * (dropped * made.trace()) ** 0.5 + dropped
    assert 0 < made.apart <= m.shape[0] * U * m.trace() * (1 + m.shape[0] * U)
    unscored = replace(m, scored=False)
    assert held(unscored).unit is None
    assert held(unscored).apart == 0
    found = refspec.attribute(replace(m, rows=made), top=3)
    monkeypatch.setattr(grams, "vanishing_scores", lambda *_: None)
    whole = refspec.attribute(replace(m, rows=held(m)), top=3)
    radius = found.radius + whole.radius
    assert np.max(np.abs(found.spectrum.values - whole.spectrum.values)) <= radius
    for name, values in whole.knockouts.items():
        assert np.max(np.abs(found.knockouts[name] - values)) <= radius


def test_a_level_is_seen_through_what_is_held_of_the_whole():
    """The projection acts on vectors: the same matrix serves every level."""
    m = refspec.fisher(typical())
    level = refspec.decompose(m).levels["within_cross_class"]
    assert held(level).unit is not None
    a, b = (
        leading.of_scaled(x, 3, m.trace())
        for x in (level, replace(level, rows=held(level)))
    )
    assert np.max(np.abs(a.values - b.values)) <= a.radius + b.radius


def test_two_classes_have_one_row_a_sample():
    m = refspec.fisher(datasets.wine_sklearn())
    two = replace(m, rows=m.rows)
    N, K, _ = m.rows.shape
    assert held(two).held.shape[0] == N * (K - 1)


@pytest.mark.parametrize("power", [0, 400, -500])
def test_the_matrix_may_be_held_for_several_questions(monkeypatch, power):
    """It is formed once, of rows whose own squares may over- and underflow."""
    m = wide()
    m = replace(m, rows=m.rows.times(power))
    formed, outer = [], Factors.outer
    monkeypatch.setattr(
        Factors, "outer", lambda self, *a: formed.append(1) or outer(self, *a)
    )
    monkeypatch.setattr(refspec.ways, "holds_gram", lambda *_: True)
    made = refspec.with_gram(m)
    assert refspec.with_gram(made) is made
    found, several = refspec.attribute(made, top=3), refspec.densities(made, probes=2)
    assert len(formed) == 1
    alone = refspec.attribute(m, top=3)
    radius = found.radius + alone.radius
    assert 0 < radius <= 2.0**-30 * alone.spectrum.values[0]
    assert np.max(np.abs(found.spectrum.values - alone.spectrum.values)) <= radius
    one = refspec.densities(m, probes=2)
    for name, x in several.items():
        assert np.max(np.abs(x.nodes - one[name].nodes)) <= 8 * radius, name
    assert len(formed) == 3


def test_a_plan_of_what_is_held_forms_it_no_more():
    """Nor does a density: products with it alone, and no second one beside it."""
    m = wide()
    made = refspec.with_gram(m)
    n, work = made.rows.held.shape[0], made.rows.work
    assert work.gram == work.formed == work.sums == 0
    assert work.product == n * n
    for what, how in (("densities", {}), ("attribute", {"top": 3})):
        few, many = (refspec.plan(x, what=what, **how) for x in (made, m))
        assert few.products < many.products
        assert few.bytes <= many.bytes


def test_what_cannot_be_held_is_said():
    few = refspec.features(typical(), "fc1")  # fewer columns than rows
    assert refspec.with_gram(few) is few
    with (
        refspec.memory.within(1000),
        pytest.raises(ValueError, match="Gram matrix must fit into 1000 bytes, got"),
    ):
        refspec.with_gram(wide())
    with pytest.raises(TypeError, match="expected a SecondMoment"):
        refspec.with_gram(np.zeros(3))
    snapshot = datasets.mnist_cnn()
    assert isinstance(refspec.with_gram(snapshot).rows, WithGram)
