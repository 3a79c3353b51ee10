"""The law of a sum of Wisharts against closed forms and high precision."""

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refspec import rounding
from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free import spectrum as free_spectrum
from refspec.random_matrix.free.edges import edge_scale, support
from refspec.random_matrix.free.law import FreeLaw

U = 2.0**-53
PIECES = st.lists(
    st.tuples(st.floats(0.01, 100), st.integers(1, 60)),
    min_size=1,
    max_size=5,
    unique_by=lambda x: round(np.log(x[0]), 1),
)


def law_of(pieces, d):
    t, counts = zip(*sorted(pieces), strict=True)
    return FreeLaw(np.asarray(t), np.asarray(counts), d)


def marchenko_pastur(x, t, count, d):
    """Density of t Wishart_count(I_d), per eigenvalue."""
    a, b = t * (count**0.5 - d**0.5) ** 2, t * (count**0.5 + d**0.5) ** 2
    return np.sqrt((b - x) * (x - a)) / (2 * np.pi * t * d * x)


def density(law, x):
    """Density at x in 40 digits: z(m) = x in the upper half plane, with no curve."""
    t, counts, d = law.scales, law.counts, law.dimension
    total = np.poly1d([x, 1.0]) * np.poly1d(-1 / (t * d), r=True)
    for j in range(len(t)):
        others = np.poly1d(np.delete(-1 / (t * d), j), r=True)
        total -= np.poly1d([float(counts[j]) / d, 0.0]) * others
    start = max(total.roots, key=lambda m: m.imag)
    with mpmath.workdps(40):
        exact_t = [mpmath.mpf(float(s)) for s in t]

        def equation(m):
            terms = (
                n * s / (1 + s * d * m) for n, s in zip(counts, exact_t, strict=True)
            )
            return -1 / m + mpmath.fsum(terms) - mpmath.mpf(float(x))

        return float(mpmath.im(mpmath.findroot(equation, complex(start))) / mpmath.pi)


@pytest.mark.parametrize(("count", "d"), [(45, 20), (400, 100), (7, 3), (20, 45)])
def test_marchenko_pastur(count, d):
    t = 0.7
    law = FreeLaw([t], [count], d)
    low, high = free_law.location(law, support(law))[0]
    a, b = t * (count**0.5 - d**0.5) ** 2, t * (count**0.5 + d**0.5) ** 2
    assert max(abs(low - a), abs(high - b)) <= rounding.gamma(64, U) * b
    table = free_spectrum.tabulate(law)
    inside = slice(200, -200)
    x = table.x[inside]
    gap = np.minimum(b - x, x - a)  # the density's condition number is b / (2 gap)
    expected = marchenko_pastur(x, t, count, d)
    away = np.abs(table.density[inside] - expected)
    assert np.all(away <= rounding.gamma(256, U) * expected * b / gap * b / x)
    # distribution function: quadrature of the closed form in theta, 30 digits
    middle, half = (a + b) / 2, (b - a) / 2
    with mpmath.workdps(30):

        def integrand(theta):
            x = middle - half * mpmath.cos(theta)
            return (half * mpmath.sin(theta)) ** 2 / (2 * mpmath.pi * t * d * x)

        for share in (0.25, 0.5, 0.9):
            exact = law.atom + mpmath.quad(integrand, [0, share * mpmath.pi])
            x = float(middle - half * mpmath.cos(share * mpmath.pi))
            k = int(np.searchsorted(table.x, x))
            # linear interpolation between two points, density at most that of a cell
            cell = table.cumulative[k] - table.cumulative[k - 1]
            found = np.interp(x, table.x, table.cumulative)
            assert abs(found - float(exact)) <= cell / 8
            assert table.cumulative[k - 1] <= float(exact) + rounding.gamma(999, U)


@pytest.mark.theorem("R2")
@pytest.mark.parametrize(
    ("pieces", "d"),
    [
        ([(1.0, 60)], 20),
        ([(1.0, 630), (21.0, 42), (141.0, 7)], 100),
        ([(0.5, 5), (2.0, 4)], 30),
        ([(1.0, 40), (1.5, 40), (3.0, 10), (60.0, 2)], 50),
    ],
)
def test_density_against_high_precision(pieces, d):
    law = law_of(pieces, d)
    table = free_spectrum.tabulate(law)
    for band in table.bands:
        inside = np.flatnonzero((table.x > band.lower) & (table.x < band.upper))
        for k in inside[len(inside) // 5 :: len(inside) // 4]:
            x = table.x[k]
            exact = density(law, x)
            gap = min(x - band.lower, band.upper - x)
            bound = rounding.gamma(512, U) * (band.upper / gap) * (band.upper / x)
            assert abs(table.density[k] - exact) <= bound * exact


@given(PIECES, st.integers(1, 80))
@example([(1.0, 5)], 5)
@example([(1.0, 3), (99.0, 1)], 40)
@example([(1.0, 40), (1.2, 40)], 1)
def test_mass_of_every_band(pieces, d):
    """Total mass 1, and in every band a whole number of degrees of freedom."""
    law = law_of(pieces, d)
    table = free_spectrum.tabulate(law)
    u = rounding.gamma(64 * (len(pieces) + 2), U) * max(1, np.sum(law.counts) / d)
    assert abs(table.cumulative[-1] - 1) <= u
    total = law.atom + sum(b.mass for b in table.bands)
    assert abs(total - 1) <= u * (len(table.bands) + 1)
    assert len(table.bands) <= len(pieces)
    rows = np.concatenate([[0], np.cumsum(law.counts)])
    for band in table.bands[1:]:  # gaps: the rows of the poles to the right
        above = d * (1 - np.interp(band.lower, table.x, table.cumulative))
        away = np.min(np.abs(above - (rows[-1] - rows)))
        assert away <= d * u * len(table.bands)
    assert abs(law.atom - max(0, 1 - rows[-1] / d)) <= U


@pytest.mark.theorem("R3")
@given(PIECES, st.integers(1, 80))
def test_support_is_where_psi_falls(pieces, d):
    law = law_of(pieces, d)
    ends = support(law)
    assert np.all(np.diff(ends.ravel()) >= 0)
    for low, high in ends:
        assert np.all(free_law.derivative(law, np.linspace(low, high, 9)[1:-1]) <= 0)
        for end, out in ((low, -1), (high, 1)):
            step = abs(end) * 2.0**-30
            if step:
                assert free_law.derivative(law, np.asarray([end + out * step]))[0] > 0


@pytest.mark.theorem("R4")
@given(PIECES, st.integers(1, 80), st.floats(0, 1))
def test_curve_is_real_and_monotone(pieces, d, share):
    law = law_of(pieces, d)
    low, high = support(law)[-1]
    v = free_law.curve(law, np.asarray([low + share * (high - low)]))
    x = free_law.location(law, v)[0]
    terms = np.abs(v) + np.sum(
        law.counts * law.scales * np.abs(v / (v[:, None] - law.poles))
    )
    near = np.max(np.abs(v / (v[:, None] - law.poles)))
    assert abs(x.imag) <= rounding.gamma(64, U) * terms[0] * near


@pytest.mark.parametrize(
    ("t", "N", "message"),
    [
        ([1.0], [1, 2], r"counts must have shape \(J,\) with J = 1, got \(2,\)"),
        ([], [], r"got \(0,\)"),
        ([1.0, np.nan], [1, 2], "scales must be finite"),
        ([2.0, 1.0], [1, 1], "got scales from 2.0 to 1.0"),
        ([-1.0], [1], "got scales from -1.0"),
    ],
)
def test_bad_input(t, N, message):
    with pytest.raises(ValueError, match=message):
        FreeLaw(np.asarray(t), np.asarray(N), 3)


@pytest.mark.theorem("R7")
def test_johnstones_constant():
    """The scale of the largest eigenvalue of one Wishart matrix."""
    law = FreeLaw([1.0], [45], 20)
    a, b = 45**0.5, 20**0.5
    johnstone = (a + b) * (1 / a + 1 / b) ** (1 / 3)
    scale = edge_scale(law, support(law)[:, 1])[0]
    # the edge is right to a few u, psi'' there to the cube of v - d t
    assert abs(scale / johnstone - 1) <= rounding.gamma(256, U)
