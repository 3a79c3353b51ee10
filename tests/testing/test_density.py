"""assert_density passes stochastic Lanczos quadrature and names a wrong operator."""

import re

import numpy as np
import pytest
import scipy.special

from refspec import models, rounding
from refspec.testing import (
    assert_density,
    comparisons,
    density_mistakes,
    probing,
)
from support.mistakes import density_at
from support.mistakes import lanczos as quadrature

SIZES = (16, 12, 10)
LABELS = np.repeat(np.arange(4), 12)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    net = models.mlp([*SIZES, 4], "tanh", rng=rng)
    s = models.snapshot(net, rng.normal(size=(len(LABELS), 16)), LABELS)
    p = s.probabilities / len(LABELS)
    g = np.concatenate(
        [
            np.einsum("nctb,nta->ncba", x.errors, x.features).reshape(*p.shape, -1)
            for x in s.layers
        ],
        axis=2,
    )
    return s, np.einsum("nc,ncp,ncq->pq", p, g, g)


def lanczos(A, k, n, *, draws="gaussian", seed=0):
    """Plain Lanczos, no reorthogonalisation, as the papers run it."""
    rng = np.random.default_rng(seed)
    starts = rng.standard_normal((len(A), n))
    if draws == "rademacher":
        starts = np.sign(starts)
    nodes, U = quadrature(A, k, starts)
    return nodes, U[:, 0] ** 2, starts


@pytest.mark.slow
@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
def test_right_quadratures_pass(case, law):
    s, A = case
    nodes, weights, starts = lanczos(A, 20, 300, draws=law)
    found = assert_density(nodes, weights, s, draws=law)
    assert set(found) == {
        "mass",
        "first moment",
        "second moment",
        "largest node",
        "smallest node",
        "distribution function",
    }
    exact = assert_density(nodes, weights, s, draws=law, vectors=starts)
    assert exact["first moment"][1] < found["first moment"][1]
    assert_density(nodes.astype(np.float32), weights.astype(np.float32), s, draws=law)


@pytest.mark.slow
def test_right_densities_on_a_grid_pass(case):
    s, A = case
    k, n = 20, 300
    nodes, weights, _ = lanczos(A, k, n)
    top = nodes.max()
    width = top / 50
    grid = np.linspace(-6 * width, top + 6 * width, 300)
    density = density_at(nodes, weights, grid, width)
    how = {"width": width, "steps": k, "probes": n}
    assert_density(grid, density, s, **how)
    with pytest.raises(AssertionError) as error:
        assert_density(grid, 2 * density, s, **how)
    assert "mass" in str(error.value)
    wide = np.linspace(4 * grid[0], 4 * grid[-1], 1200)
    wrong = density_at(4 * nodes, weights, wide, width)
    with pytest.raises(AssertionError, match="first moment"):
        assert_density(wide, wrong, s, **how)
    coarse = grid[::12]
    with pytest.raises(ValueError, match="a grid with steps of at most"):
        assert_density(coarse, density_at(nodes, weights, coarse, width), s, **how)


def test_too_few_probes_to_tell(case):
    s, A = case
    nodes, weights, starts = lanczos(A, 4, 1)
    with pytest.raises(ValueError, match="cannot tell"):
        assert_density(nodes, weights, s)
    assert_density(nodes, weights, s, vectors=starts)


def test_the_enclosure_by_partial_sums_is_the_theorem():
    """F_z lies between partial sums at every point; shifted weights do not hold it."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.uniform(size=40))
    nodes, weights, starts = lanczos(np.diag(values), 8, 1)
    mass = starts[:, 0] ** 2 / np.sum(starts[:, 0] ** 2)
    at = rng.uniform(size=200)
    F = np.array([mass[values <= t].sum() for t in at])
    sums = np.concatenate([[0.0], np.cumsum(weights[0]), [1.0]])
    below = np.searchsorted(nodes[0], at, side="right")
    slack = rounding.gamma(400, 2.0**-53)
    assert (sums[np.maximum(below - 1, 0)] <= F + slack).all()
    assert (sums[np.minimum(below + 1, 8)] + slack >= F).all()
    assert not (sums[below] <= F + slack).all()


def test_wrong_arguments(case):
    s, A = case
    nodes, weights, starts = lanczos(A, 5, 2)
    with pytest.raises(ValueError, match="must have one shape"):
        assert_density(nodes, weights[:1], s)
    with pytest.raises(ValueError, match="draws must be"):
        assert_density(nodes, weights, s, draws="uniform")
    with pytest.raises(ValueError, match="weights that are not squared"):
        assert_density(nodes, -weights, s)
    with pytest.raises(ValueError, match="an ascending grid"):
        assert_density(nodes, weights, s, width=0.1)
    with pytest.raises(ValueError, match="vectors must be the n = 2 probes"):
        assert_density(nodes, weights, s, vectors=starts[:, :1])
    assert scipy.special.ndtr(0) == 0.5


def test_every_probe_has_mass_one_and_both_sides_of_a_step_count():
    """Masses .9 and 1.1 are no 1 and 1; nodes too far right show on one side alone."""
    truth = comparisons.Truth(np.array([1.0, 2.0]), 0.0)

    def checks(x, y):
        found = comparisons.Rules(x, y, 2.0**-53, "gaussian")
        return {c.name: c for c in found.compare(truth)}

    x, y = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[0.5, 0.375], [0.5, 0.625]])
    assert checks(x, y)["mass"].distance == 0.125
    quarter = np.full((1, 4), 0.25)
    right = np.array([[1.9375, 1.9375, 2.0, 2.0]])
    assert checks(right, quarter)["distribution function"].distance == 0.25
    left = np.array([[1.0, 1.0, 1.0625, 1.0625]])
    assert checks(left, quarter)["distribution function"].distance == 0.25


def test_how_many_probes_and_steps_would_tell_is_so(case):
    """With as many as the refusal says the same assertion decides."""
    s, A = case
    nodes, weights, _ = lanczos(A, 4, 1)
    with pytest.raises(ValueError, match="cannot tell") as error:
        assert_density(nodes, weights, s)
    n, k = (
        int(x) for x in re.findall(r"[nk] = (\d+) (?:probes|steps)", str(error.value))
    )
    assert n > 1
    assert k > 4
    for steps, probes in ((4, n), (k, 1)):
        nodes, weights, _ = lanczos(A, steps, probes)
        assert_density(nodes, weights, s)
        with pytest.raises(AssertionError):
            assert_density(2 * nodes, weights, s)


@pytest.mark.parametrize("seed", range(3))
def test_the_end_is_reached_as_bounded(seed):
    """No largest node of 200 probes is below the bound, which is near for large k."""
    rng = np.random.default_rng(seed)
    values = np.sort(np.append(rng.uniform(size=60), [1.5, 2.0]))
    for k in (2, 8, 20, 40):
        least = probing.end_reached(values, k, 200, "gaussian")
        nodes, _, _ = lanczos(np.diag(values), k, 200, seed=seed)
        assert least <= nodes.max(axis=1).min() * (1 + 2.0**-40)
        assert least <= values[-1]
    assert values[-1] - least <= 2.0**-20
    assert probing.end_reached(values, 40, 1, "rademacher") == values[0]


def test_a_wide_kernel_and_a_narrow_one():
    """Two bumps at the ends of a gap are two as long as the gap is two widths wide."""
    values = np.append(np.linspace(0, 1, 200), 9.0)
    assert density_mistakes.hidden_outliers(4.0, values) == (8.0, 2.0)
    assert density_mistakes.hidden_outliers(3.9, values) is None
    assert density_mistakes.hidden_outliers(4.0, np.linspace(0, 9, 200)) is None


def test_ghosts_are_no_steps():
    """Lanczos without reorthogonalisation finds the top twice; the rule stays right."""
    values = np.append(np.linspace(0, 1, 90), 50.0)
    nodes, weights, _ = lanczos(np.diag(values), 60, 40)
    found = comparisons.Rules(nodes, weights, 2.0**-53, "gaussian")
    truth = comparisons.Truth(values, 0.0)
    assert found.steps(truth) < 60
    assert all(x.holds for x in found.compare(truth))


def test_what_is_only_possible_has_no_name(case):
    """From one probe of few steps 1.9 times the spectrum may be twice: no bracket."""
    s, A = case
    nodes, weights, _ = lanczos(A, 20, 1)
    with pytest.raises(AssertionError) as error:
        assert_density(1.9 * nodes, weights, s)
    text = str(error.value)
    assert "possible               factor 2" in text
    assert "fits for certain; n = " in text
    assert "[" not in text
