"""A radius is the sum that theory says, term by term: none forgotten, none twice."""

import math
from dataclasses import replace

import numpy as np
import pytest

from refspec import attribution, coordinates, curvature, rounding, ways
from refspec.attribution.hessian import attribute_hessian
from refspec.coordinates import factorisation, frame
from refspec.coordinates.certified import certified
from refspec.factors import Factor, Factors
from refspec.leading import product_radius, with_gram_if_cheaper
from refspec.quadrature import density
from refspec.rows import forming_radius
from refspec.spectra import spectrum
from refspec.structure import decompose
from support.snapshots import sampled

U = 2.0**-53
COUNTS = (3, 1, 5)
N, C, LARGEST = 9, 3, 5


def moments():
    """Features with no fewer classes than columns, errors and gradients; positions."""
    s = sampled(counts=COUNTS, sides=((2, 2),), T=2)
    three = {n: getattr(curvature, n)(s, "fc") for n in ("features", "errors")}
    return three | {"fisher": curvature.fisher(s)}


def equal(found, expected):
    """Up to the few roundings of the sum itself."""
    return abs(found - expected) <= rounding.gamma(64, U) * expected


def of_means(K, samples=LARGEST):
    """Sums over a class and over cells, there and back (L1), relative to the trace."""
    return 2 * rounding.gamma(3 * samples + 2 * max(K, C) + 18, U)


@pytest.mark.parametrize("of", ["features", "errors", "fisher"])
def test_primal(of):
    m = moments()[of]
    n, K = m.shape[0], m.weights.shape[1]
    trace = float(np.sum(m.rows.squares()))
    whole = 2 * rounding.second_moment_radius(n + K + 4, trace, U)
    whole += forming_radius(m.rows, trace, U)
    at = coordinates.primal(m)
    assert equal(at.trace, trace)
    assert equal(at.radius, whole)
    assert equal(at.level_radius, whole + of_means(K) * trace)


@pytest.mark.parametrize("level", ["between_cross_class", "within_cross_class"])
def test_primal_of_a_level(level):
    """Through a projection four times as much, and no eigenvalue is known better."""
    m = decompose(moments()["fisher"]).levels[level]
    (n, _), trace = m.shape, float(np.sum(m.rows.squares()))
    whole = 2 * rounding.second_moment_radius(n + C + 4, trace, U)
    whole += forming_radius(m.rows, trace, U)
    at = coordinates.primal(m)
    assert equal(at.level_radius, 4 * (whole + of_means(C) * trace))
    assert at.radius == at.level_radius
    true = float(np.trace(m.matrix()))
    assert abs(at.trace - true) <= at.radius
    assert true < trace - at.radius


@pytest.mark.parametrize("of", ["features", "errors", "fisher"])
def test_dual(of):
    """The measured residual, the scores left out, X'X and, in levels, the means."""
    m = moments()[of]
    small, power = frame.scaled(m)
    K, trace = m.weights.shape[1], float(np.sum(small.rows.squares()))
    rows, left_out = small.rows, 0.0
    if m.scored:
        rows, left_out = curvature.score_reduced(small), curvature.scores(small)
    rows = rows.explicit(ways.explicit_budget())
    n = rows.shape[0] * rows.shape[1]
    made = factorisation.pivoted_rows(rows, n * U * trace / 2, m.xp)
    whole = factorisation.residual(rows, made, trace, U, rows.xp) + left_out
    whole += rounding.second_moment_radius(n + 4, trace, U)
    level = whole + 2 * math.sqrt(left_out * trace) + of_means(K) * trace
    at, up = coordinates.dual(m), 4.0**power
    assert (left_out > 0) == m.scored
    assert equal(at.radius, whole * up)
    assert equal(at.level_radius, level * up)
    assert at.second.shape == (len(made.L), len(made.L))


def test_dual_of_a_level():
    m = decompose(moments()["fisher"]).levels["between_class"]
    small, power = frame.scaled(m)
    n, trace = m.shape[0], float(np.sum(small.rows.squares()))
    rows = small.rows.explicit(ways.explicit_budget())
    made = factorisation.pivoted_rows(rows, n * U * trace / 2, m.xp)
    whole = factorisation.residual(rows, made, trace, U, rows.xp)
    whole += rounding.second_moment_radius(6 * (n + C) + 32, trace, U)
    whole += rounding.second_moment_radius(n + 4, trace, U)
    at = coordinates.dual(m)
    assert equal(at.level_radius, (whole + of_means(C) * trace) * 4.0**power)
    assert at.radius == at.level_radius
    assert abs(at.trace - float(np.trace(m.matrix()))) <= at.radius


def test_a_residual_of_nothing_is_the_rounding_of_products():
    """Orthogonal rows: an exact factorisation, and the rounding of products."""
    sizes = 2.0 ** -np.arange(6)
    rows = Factors((Factor(np.diag(sizes)[:, None, None, :], None),))
    trace = float(np.sum(sizes**2))
    made = factorisation.pivoted_rows(rows, 2.0**-7, rows.xp)
    assert len(made.L) == 4  # of squares 1 to 4^-3; 4^-4 and 4^-5 stay out
    left = math.sqrt(4.0**-8 + 4.0**-10) * (1 + rounding.gamma(6, U))
    terms = rows.roundings + len(made.L) + 4
    left += 2 * rounding.second_moment_radius(terms, trace, U)
    left += forming_radius(rows, trace, U)
    assert equal(factorisation.residual(rows, made, trace, U, rows.xp), left)


@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("of", ["features", "fisher"])
def test_levels_and_knockouts(of, certify):
    """Of the whole twice, what levels see besides, and each eigensolver."""
    at = coordinates.coordinates(moments()[of], certify=certify)
    r, whole = len(at.second), spectrum(at, vectors=True)
    values = whole.values
    solver = rounding.eigensolver_radius(r, float(np.abs(values).max()), U)
    assert equal(whole.radius, at.radius + (0 if at.solved else solver))
    basis = attribution.eigenbasis(at)
    twice = 0 if at.solved else 2 * rounding.eigensolver_radius(r, at.trace, U)
    more = at.level_radius - at.radius
    assert equal(basis.radius, 2 * whole.radius + twice + more)
    radii = []
    for name in [*basis.rows, basis.within]:
        values, radius = attribution.knockout(basis, [name])
        size = float(np.abs(values).max())
        solver = rounding.eigensolver_radius(len(values), size, U)
        assert equal(radius, basis.radius + solver)
        radii.append(radius)
    found = attribution.attribute(at)
    assert found.radius >= max(radii)
    largest = max(float(np.abs(x).max()) for x in found.levels.values())
    size = max([*map(len, found.levels.values()), len(basis.values)])
    most = rounding.eigensolver_radius(size, max(largest, whole.values[0]), U)
    assert found.radius <= basis.radius + most


def test_a_hessian_and_its_fisher():
    m = moments()["fisher"]
    F, at = m.matrix(), coordinates.primal(m)
    H = F + np.diag(np.linspace(-1, 1, len(F)))
    forming = 2.0**-40  # of the size of the rest, which is seen beside it
    found = attribute_hessian(H, m, forming=forming)
    E = H - at.second
    size = float(np.abs(np.linalg.eigvalsh(E)).max())
    norm = max(float(np.abs(found.values).max()), at.trace)
    solver = rounding.eigensolver_radius(len(F), size, U)
    solver += rounding.eigensolver_radius(len(F), norm, U)
    assert equal(found.radius, forming + at.radius + solver)
    assert equal(found.weyl, float(np.abs(found.residual).max()) + found.radius)


def test_weights_that_underflow_count_against_all_others():
    """2 A'PF + F'PF <= 6 |F| |A| at most, F the rows of such weights, A all (L1)."""
    m = moments()["fisher"]
    weights = m.weights.copy()
    weights[[1, 4], 0] = 2.0**-1000, 2.0**-969  # the normal numbers end at 2^-1022
    m = replace(m, weights=weights)
    trace = float(np.sum(m.rows.squares()))
    squares = m.rows.squares()[1, 0]
    lost = frame.uncertain(m, m.rows, trace)
    assert equal(lost, 6 * math.sqrt(squares * trace))
    for at in (coordinates.primal(m), coordinates.dual(m), certified(m)):
        assert at.level_radius >= at.radius + lost * (1 - rounding.gamma(64, U))
        assert at.level_radius <= 2 * (at.radius + lost)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_below_the_normal_numbers_are_known_to_the_least_one(dtype):
    """An entry there is rounded absolutely; eigenvalues of r by r then by r of them."""
    s = sampled(counts=COUNTS, sides=((2, 2),), dtype=dtype)
    m = curvature.fisher(s)
    info = np.finfo(dtype)
    power = math.frexp(float(info.smallest_normal))[1] // 2 - 4
    tiny = replace(m, rows=m.rows.times(power))
    least = float(info.smallest_normal) * float(info.eps)
    for make in (coordinates.primal, coordinates.dual):
        at, small = make(m), make(tiny)
        assert len(at.second) == len(small.second)
        scale = 4.0**power
        expected = at.radius * scale + least * len(at.second)
        assert equal(small.radius, expected)
        more = (at.level_radius - at.radius) * scale
        # of numbers that small a double keeps few digits, if any
        assert abs(small.level_radius - small.radius - more) <= least
    zero = coordinates.primal(replace(m, rows=m.rows.times(-(2**14))))
    assert zero.trace == 0
    u, n = rounding.unit_roundoff(m.weights), m.shape[0]
    assert zero.radius == 2 * rounding.second_moment_radius(n + C + 4, 0.0, u)


def test_rows_by_pairs_of_positions(monkeypatch):
    """As rows and as a Gram matrix: what cancels is as uncertain as its terms."""
    monkeypatch.setattr("refspec.factors.layer._LONG", 1)
    rng, (b, T, a) = np.random.default_rng(0), (3, 2, 13)
    roots, h = rng.standard_normal((6, 2, T, b)), rng.standard_normal((6, T, a))
    f = Factor(roots, h)
    assert f.by_pairs
    terms = np.linalg.norm(roots, axis=3) * np.linalg.norm(h, axis=2)[:, None]
    size = np.linalg.norm(terms.sum(axis=2))
    length = np.linalg.norm(np.einsum("nktb,nta->nkba", roots, h))
    weighed = rounding.gamma(4 + T, U) * size
    paired = rounding.gamma(b * T + a + T, U) * size * size / length
    assert equal(Factors((f,)).forming(), math.hypot(weighed, paired))
    roots[:, :, 1], h[:, 1] = -roots[:, :, 0], h[:, 0]
    assert Factors((f,)).forming() == math.inf  # nothing but rounding is left


@pytest.mark.parametrize("T", [1, 3])
def test_rows_that_were_reflected(T):
    """Weighed, added up over positions, and mixed: a sum of C errors, a step each."""
    rng, (N, K, b, a) = np.random.default_rng(0), (5, 3, 2, 4)
    f = Factor(rng.standard_normal((N, K, T, b)), rng.standard_normal((N, T, a)))
    unit = rng.standard_normal((N, K))
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    made = Factors((f,)).reduced(unit, (0, 2, 3, 5))
    terms = (
        np.linalg.norm(f.roots, axis=3) * np.linalg.norm(f.features, axis=2)[:, None]
    )
    size, sums = np.linalg.norm(terms.sum(axis=2)), T if T > 1 else 0
    mixed = rounding.gamma(2 * K + 8 + sums, U) * size
    assert equal(made.forming(), rounding.gamma(4 + sums, U) * size + mixed)


@pytest.mark.parametrize("steps", [1, 4])
def test_counts_of_the_quadrature(steps):
    """A product and one for every step, and the forming of the rows, on both sides."""
    m = moments()["fisher"]
    small, power = frame.scaled(m)
    trace = float(np.sum(small.rows.squares()))
    small = with_gram_if_cheaper(small, 16 * steps)
    away = product_radius(small, trace) * (1 + steps)
    away += forming_radius(small.rows, trace, U)
    found = density(m, steps=steps)
    top = float(found.nodes.max())
    gap = float(found.thresholds[0]) - top - 2 * away * 4.0**power
    assert abs(gap) <= rounding.gamma(8, U) * top
    assert rounding.gamma(8, U) * top < away * 4.0**power / (4 * steps)
