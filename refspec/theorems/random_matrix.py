"""Checks of theory/random_matrix.md: exact reductions, and a ladder of sizes.

What is exact is checked in the place of the snapshot: its classes and weights. What
holds in the limit is checked on designs of our own, drawn with fixed seeds in growing
dimensions; the outcome does not depend on the snapshot and is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from refspec import rounding
from refspec.populations import Population, stacked
from refspec.random_matrix import discrepancy, predict, scores
from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free import outliers as free_outliers
from refspec.random_matrix.free import spectrum as free_spectrum
from refspec.random_matrix.free.design import reduction
from refspec.random_matrix.free.edges import split_threshold, support
from refspec.random_matrix.free.law import FreeLaw
from refspec.random_matrix.nested.design import nested_design
from refspec.random_matrix.nested.outliers import ACCURACY, nested_outliers
from refspec.random_matrix.repulsion import GAUSSIAN, Spacings, distance, spacings
from refspec.spectra import Spectrum
from refspec.synthetic import expectations
from refspec.synthetic.worlds import draw
from refspec.theorems.canonical import few_classes
from refspec.theorems.deviations import Deviations, deviations, in_deviations
from refspec.theorems.registry import Comparison, asymptotic, identity, lemma
from refspec.theorems.samples import few_samples
from refspec.theorems.study import Study

#: Dimensions of the full ladder, and how often each is drawn.
LADDER = ((100, 100), (200, 40), (400, 16), (800, 8))
#: Deviations, and units of 1 / d, that the statements allow.
SCORE, DISTANCE, OVERLAP, SPREAD = 4.0, 4.0, 2.0, 10.0
#: Dimensions in which the largest eigenvalue is drawn, and how often.
EXTREMES = ((50, 600), (100, 300), (200, 100))
#: Dimension and draws of the spectra whose spacings are taken; what the surmise, the
#: edges and the dimension cost.
SPACED, SURMISE = (100, 30), 0.02
#: Dimension, rows and draws of a mean alone.
ALONE = (16, 128, 24000)

_U = 2.0**-53  # designs are drawn and predicted in float64
_AT_ONCE = 500  # draws
_ERRORS = 6.0  # standard errors of a mean over draws, exceeded once in 10^9


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Spectra drawn of one population: with the leading eigenvectors and the means."""

    population: Population
    found: tuple[tuple[Spectrum, np.ndarray, np.ndarray | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """Draws of one size against the prediction."""

    size: int  # d
    distance: float  # d times the mean Kolmogorov-Smirnov distance
    miscounted: int  # draws that put another number of eigenvalues in a band
    outliers: Deviations
    overlap: tuple[float, float]  # error of an outlier's mean overlap, standard error


def bumpy(d: int) -> Population:
    """Return a design with random class and cross-class means and c' = c dropped."""
    C, n = 7, d // 5
    weights = np.full((C * n, C), 1.0 / (C * (C - 1) * n))
    weights[np.arange(C * n), np.repeat(np.arange(C), n)] = 0
    levels = {"class_covariance": 4.0, "cross_covariance": 1.0}
    return Population((n,) * C, d, weights, 1.0, **levels)  # type: ignore[arg-type]


def signalled(d: int) -> Population:
    """Return features with six fixed orthogonal class means of close lengths."""
    C, n = 6, d // 2
    lengths = 4.0 * np.asarray([6.0, 5.5, 5.0, 4.5, 4.0, 3.5])
    means = np.sqrt(lengths)[:, None] * np.eye(C, d)
    return Population((n,) * C, d, np.ones((C * n, 1)), 1.0, class_means=means)


def rows(population: Population, rng: np.random.Generator) -> np.ndarray:
    """Draw the weighted rows of a population, shape (N K, d)."""
    x = draw(population, rng=rng)
    x = x * np.sqrt(population.weights)[..., None]
    return np.asarray(x.reshape(-1, population.dimension))


def climb(kind: str, ladder: tuple[tuple[int, int], ...], seed: int) -> Iterator[Rung]:
    """Compare `bumpy` or `signalled`, drawn in growing sizes, with its prediction.

    The ladder has a dimension and a number of draws for each rung.
    """
    for d, draws in ladder:
        yield _rung(_drawn(kind, d, draws, seed))


@cache
def _drawn(kind: str, d: int, draws: int, seed: int) -> Draws:
    """Draw a design in d dimensions again and again."""
    population = {"bumpy": bumpy, "signalled": signalled}[kind](d)
    rng, found = np.random.default_rng([seed, d]), []
    for _ in range(draws):
        given = _given_means(population, rng)
        X = rows(given, rng)
        values, vectors = np.linalg.eigh(X.T @ X)
        radius = rounding.eigensolver_radius(d, float(values[-1]), _U)
        spectrum = Spectrum(values[::-1], None, radius, "a priori", d)
        leading = vectors[:, : -population.C - 1 : -1].copy()  # and not all the others
        found.append((spectrum, leading, given.class_means))
    return Draws(population, tuple(found))


def _rung(drawn: Draws) -> Rung:
    """Compare all draws of one size with what is predicted."""
    prediction = predict(drawn.population)
    d, draws = prediction.dimension, len(drawn.found)
    found = [
        discrepancy(prediction, x, vectors=vectors, means=means)
        for x, vectors, means in drawn.found
    ]
    scores = np.asarray([x.scores for x in found])
    errors = np.asarray([x.overlap_errors for x in found])
    away, spread = np.abs(errors.mean(axis=0)), errors.std(axis=0) / draws**0.5
    k = int(np.argmax(away / (1 / d + spread)))
    return Rung(
        d,
        d * float(np.mean([x.distance for x in found])),
        sum(x.band_counts != x.expected_counts for x in found),
        deviations(scores, prediction.outliers),
        (float(away[k]), float(spread[k])),
    )


def _given_means(population: Population, rng: np.random.Generator) -> Population:
    """Draw the class means, if they are random, and take them as given."""
    if population.class_covariance is None:
        return population
    shape = population.C, population.dimension
    means = np.sqrt(population.class_covariance) * rng.standard_normal(shape)
    return replace(population, class_covariance=None, class_means=means)


@identity(
    "Exact reduction to Wisharts",
    "M = sum_j t_j g_j g_j', t_j the eigenvalues of the rows' covariance",
    few_classes,
)
def R1(study: Study) -> Iterator[Comparison]:
    """Compare with eigenvalues of the rows' covariance in the snapshot's weights."""
    few = study.once(few_samples)
    s1, s2, s3 = np.random.default_rng(study.seed).uniform(0.5, 2, 3).tolist()
    sizes = tuple(np.unique(few.labels, return_counts=True)[1].tolist())
    w = few.w / few.w.max()
    population = Population(sizes, 1, w, s3, class_covariance=s1, cross_covariance=s2)
    sample, cross = np.nonzero(w)
    same_class = few.labels[sample, None] == few.labels[sample]
    same_cell = same_class & (cross[:, None] == cross)
    root = np.sqrt(w[sample, cross])
    T = root[:, None] * (s1 * same_class + s2 * same_cell + s3 * np.eye(len(root)))
    exact = np.linalg.eigvalsh(T * root)
    law = reduction(population).law
    found = np.sort(np.repeat(law.scales, law.counts.astype(int)))
    n = len(exact)
    bound = (n + 4) * rounding.eigensolver_radius(n, float(exact[-1]), _U)
    bound += rounding.gamma(n + 8, _U) * float(exact.sum())
    padded = np.append(np.zeros(n - len(found)), found)  # the least are not told from 0
    yield float(np.max(np.abs(padded - exact))), bound, exact[-1], f"{n} rows"


@identity(
    "Distribution function without quadrature",
    "F in closed form on the curve; mass 1, as many eigenvalues a band as rows",
    few_classes,
)
def R5(study: Study) -> Iterator[Comparison]:
    """Mass 1 in all, and as many eigenvalues in a band as rows."""
    few = study.once(few_samples)
    sizes = tuple(np.unique(few.labels, return_counts=True)[1].tolist())
    w = few.w / few.w.max()
    levels = {"class_covariance": 8.0, "cross_covariance": 2.0}
    d = len(few.labels) + 1
    law = reduction(Population(sizes, d, w, 1.0, **levels)).law  # type: ignore[arg-type]
    table = free_spectrum.tabulate(law)
    share = max(1.0, float(law.counts.sum()) / d)
    bound = rounding.gamma(64 * (len(law.scales) + 2), _U) * share
    yield abs(float(table.cumulative[-1]) - 1), bound, 1.0, f"d = {d}: all of it"
    dofs = np.cumsum(law.counts[::-1])
    above = np.cumsum([b.mass * d for b in table.bands[::-1]])[:-1]
    for count in above:
        away = float(np.min(np.abs(dofs - count)))
        yield away, d * bound * len(table.bands), count, f"d = {d}: above a gap"


def _of_a_rung(rung: Rung) -> Iterator[Comparison]:
    """Compare distribution function, counts, outliers and overlaps of one size."""
    at, d, found = f"d = {rung.size}", rung.size, rung.outliers
    yield rung.distance, DISTANCE, d, f"{at}: d times the KS distance"
    yield rung.miscounted, 0, found.draws, f"{at}: draws with a wrong count of a band"
    of = f"{at}: an outlier"
    yield from in_deviations(found, SCORE, of)
    wide, error = found.spread
    bound = SPREAD / d + _ERRORS * error
    yield abs(wide), bound, 1.0, f"{of}'s variance, over that predicted"
    away, spread = rung.overlap
    yield away, OVERLAP / d + _ERRORS * spread, 1.0, f"{of}'s overlap with the means"


@cache
def _alone(seed: int) -> tuple[Population, float, float]:
    """Draw one mean in few dimensions often: its eigenvalue's mean, a standard error.

    What it does to first order, of known expectation, is taken off every draw.
    """
    d, n, draws = ALONE
    strength = 4.0 * (n * d) ** 0.5  # four times the threshold
    mean = np.eye(1, d) * (strength / n) ** 0.5
    population = Population((n,), d, np.ones((n, 1)), 1.0, class_means=mean)
    rng = np.random.default_rng([seed, d])
    many = replace(population, weights=np.ones((n, _AT_ONCE)))  # as cross classes
    tops, known = [], []
    for _ in range(draws // _AT_ONCE):
        X = np.moveaxis(draw(many, rng=rng), 1, 0)
        M = np.swapaxes(X, 1, 2) @ X
        tops.append(np.linalg.eigvalsh(M)[:, -1])
        along = M[:, 0, 0] - strength - n
        length = np.sum(np.sum(X, axis=1) ** 2, axis=1) / n - strength - d
        known.append(np.stack([along, length], axis=1))
    return population, *_without(np.concatenate(tops), np.concatenate(known))


def _without(values: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Return mean and standard error of values less their regression on known zeros."""
    centred = known - known.mean(axis=0)
    shares = np.linalg.lstsq(centred, values - values.mean())[0]
    rest = values - known @ shares
    return float(np.mean(rest)), float(np.std(rest)) / len(rest) ** 0.5


@identity(
    "When the bump leaves the bulk",
    "sqrt(d) (t2 - t3) > [(N3 t3^2)^(1/3) + (N2 t2^2)^(1/3)]^(3/2)",
)
def R6(study: Study) -> Iterator[Comparison]:
    """Count the bands just below and just above the threshold, and put it in."""
    few = study.once(few_samples)
    N, C = few.p.shape
    scale = float(np.random.default_rng(study.seed).uniform(0.5, 2))
    bulk, bump = N * C, C * max(1, C - 2)
    for d in (bump + 1, 4 * bump, 64 * bump):
        share, at = bump / d, f"d = {d}, {bulk} and {bump} rows"
        t = split_threshold(d, bulk, bump, scale)
        right = (np.cbrt(bulk * scale**2) + np.cbrt(bump * t**2)) ** 1.5
        left, g = d**0.5 * (t - scale), rounding.gamma(64, _U)
        yield abs(left - right), g * d**0.5 * t, left, f"both sides at t2, {at}"
        # t is right to the rounding of its equation, over its slope
        off = 4 * g / (1 - share**0.5) * (1 + (bulk / d) ** 0.5)
        for bands, near in ((1, t * (1 - off)), (2, t * (1 + off))):
            law = FreeLaw(np.asarray([scale, near]), np.asarray([bulk, bump]), d)
            found = len(support(law))
            yield abs(found - bands), 0.0, bands, f"bands near the threshold, {at}"


@cache
def _tops(seed: int) -> tuple[tuple[Population, np.ndarray], ...]:
    """Draw the largest eigenvalue of one Wishart matrix in growing dimensions."""
    found = []
    for d, draws in EXTREMES:
        population = Population((3 * d,), d, np.ones((3 * d, 1)), 1.0)
        rng = np.random.default_rng([seed, d])
        tops = []
        for _ in range(draws):
            X = rows(population, rng)
            tops.append(np.linalg.eigvalsh(X.T @ X)[-1])
        found.append((population, np.asarray(tops)))
    return tuple(found)


@asymptotic(
    "Scale of the extreme eigenvalues",
    "edge + s TW1, s = d^(-2/3) (|z''(m)| / 2)^(1/3)",
    deep=True,
    coarse="errors of order d^(-1/3): sees half a deviation of the mean, 25 % of s",
)
def R7(study: Study) -> Iterator[Comparison]:
    """Compare mean and deviation of the largest eigenvalue with Tracy and Widom's."""
    for population, tops in _tops(study.seed):
        mean, deviation = predict(population).bulk_maximum
        n, d, at = len(tops), population.dimension, f"d = {population.dimension}"
        slow = deviation / d ** (1 / 3)
        bound = slow + _ERRORS * deviation / n**0.5
        yield abs(float(np.mean(tops)) - mean), bound, deviation, f"mean, {at}"
        bound = slow / 4 + _ERRORS * deviation / (2 * n) ** 0.5
        away = abs(float(np.std(tops)) - deviation)
        yield away, bound, deviation, f"deviation, {at}"


@identity(
    "Outliers over general covariances",
    "zeros of det S(x), S = diag(1/W) + M Q M', with overlap and variance",
)
def R13(study: Study) -> Iterator[Comparison]:
    """Compare one mean, isotropic noise as matrices: theory/random_matrix.md#R8."""
    rng, d, n = np.random.default_rng(study.seed), 24, 12
    s2, s3 = rng.uniform(0.5, 2, 2).tolist()
    mean, w = 4 * rng.standard_normal((1, d)), np.ones((n, 2))
    plain = Population((n,), d, w, s3, class_means=mean, cross_covariance=s2)
    one = np.eye(d)
    full = replace(plain, within_covariance=s3 * one, cross_covariance=s2 * one)
    made = reduction(plain)
    v, strength = made.signals.v, made.signals.strength
    top = predict(plain).bands[-1]
    found = nested_outliers(nested_design(full), top.upper, top.upper_scale)
    rate = free_law.derivative(made.law, v)
    spread = np.sqrt(2 * rate * (v**2 - rate * strength**2) / d)
    # at a root to ACCURACY; a variance is the difference of two terms
    lost = (v**2 + rate * strength**2) / (v**2 - rate * strength**2) / 2
    for what, here, there, k in (
        ("value", found.values, free_law.location(made.law, v), 1.0),
        ("deviation", found.deviations, spread, lost[0]),
        ("overlap", found.overlaps, free_outliers.overlaps(made.law, v, strength), 1.0),
    ):
        bound = k * ACCURACY * there[0]
        yield abs(here[0] - there[0]), bound, there[0], what


@asymptotic(
    "Outliers of fixed means",
    "within 4 deviations of psi(v) and its shift; overlaps psi' theta^2 / v to 2/d",
    deep=True,
    coarse="deviations of order d^(-1/2): sees 2 % of an outlier's mean, .1 % alone",
)
def R8(study: Study) -> Iterator[Comparison]:
    """Outliers of close fixed means in growing dimensions, and the shift of one."""
    for rung in climb("signalled", LADDER, study.seed):
        yield from _of_a_rung(rung)
    population, mean, error = _alone(study.seed)
    (predicted,) = predict(population).fixed.values
    away, bound = abs(mean - predicted), _ERRORS * error
    yield away, bound, mean, f"d = {population.dimension}: the mean of one alone"


@asymptotic(
    "The spectrum approaches its prediction",
    "KS distance below 4/d and exact counts in all bands, C(C-2) in the bump",
    deep=True,
    coarse="errors of order 1/d: sees a KS distance of .04, 4 % of an outlier's mean",
)
def R14(study: Study) -> Iterator[Comparison]:
    """Distribution function and band counts in growing dimensions."""
    for rung in climb("bumpy", LADDER, study.seed):
        yield from _of_a_rung(rung)


def _repelling(seed: int) -> tuple[Spacings, ...]:
    """Draw spectra of one Wishart matrix, and take their spacings."""
    d, draws = SPACED
    population = Population((3 * d,), d, np.ones((3 * d, 1)), 1.0)
    rng, made, found = np.random.default_rng([seed, d]), predict(population), []
    for _ in range(draws):
        X = rows(population, rng)
        values = np.linalg.eigvalsh(X.T @ X)
        radius = rounding.eigensolver_radius(d, float(values[-1]), _U)
        spectrum = Spectrum(values[::-1], None, radius, "a priori", d)
        found.append(spacings(spectrum, made))
    return tuple(found)


@asymptotic(
    "Spacings are those of a Gaussian matrix",
    "unfolded by F: 1 - exp(-pi s^2 / 4), a mean ratio of .5307",
    coarse="drawn: sees .09 of the distribution of spacings, 15 % of the mean ratio",
)
def R15(study: Study) -> Iterator[Comparison]:
    """Compare spacings inside the bulk, unfolded by the law, and their ratios."""
    found = _repelling(study.seed)
    unfolded = np.concatenate([x.unfolded for x in found])
    away, n = distance(unfolded), len(unfolded)
    # as for independent spacings (Massart), which repel each other less
    bound = SURMISE + float(np.sqrt(np.log(2 / rounding.FAILURE) / (2 * n)))
    yield away, bound, 1.0, f"{n} spacings, from Wigner's surmise"
    every = np.concatenate([x.ratios for x in found])
    bound = SURMISE / 2 + _ERRORS * float(np.std(every)) / len(every) ** 0.5
    away = abs(float(np.mean(every)) - GAUSSIAN)
    yield away, bound, GAUSSIAN, f"mean of {len(every)} ratios"


R2 = lemma(
    __name__,
    "R2",
    "The map psi",
    "m(psi(v)) = -1/v, psi(v) = v + sum_j N_j t_j v / (v - d t_j)",
    "tests/random_matrix/free/test_law.py::test_density_against_high_precision",
)


R3 = lemma(
    __name__,
    "R3",
    "Support",
    "the bands are psi of the intervals where psi' <= 0, one gap a pole at most",
    "tests/random_matrix/free/test_law.py::test_support_is_where_psi_falls",
)


R4 = lemma(
    __name__,
    "R4",
    "The curve above the real axis",
    "one v = u + iy above each u, by Newton's method on a concave function",
    "tests/random_matrix/free/test_law.py::test_curve_is_real_and_monotone",
)


R9 = lemma(
    __name__,
    "R9",
    "The tree of a nested design",
    "b = grad log det(I + W sum_r a_r Z_r Z_r') in one sweep up and one down",
    "tests/random_matrix/nested/test_law.py::test_sweep_is_the_gradient",
)


R10 = lemma(
    __name__,
    "R10",
    "The fixed point of general covariances",
    "Q = (sum_r b_r S_r - z)^-1, a_r = tr S_r Q; unique with Im a > 0",
    "tests/random_matrix/nested/test_law.py::test_fixed_point_in_high_precision",
)


R11 = lemma(
    __name__,
    "R11",
    "A stationary functional whose imaginary part is F",
    "F = -Im [log det(sum b S - x) + L(a) - a.b] / (pi d)",
    "tests/random_matrix/nested/test_spectrum.py::test_isotropic_designs_agree",
)


R12 = lemma(
    __name__,
    "R12",
    "Edges are folds of the real branch",
    "I - T H singular; x(s) has an extremum; the support ends before `reach`",
    "tests/random_matrix/nested/test_edges.py::test_right_edge_is_a_fold",
)


@identity(
    "Score-consistent errors have matrices for weights",
    "sum w delta delta' = sum_i F_i' A_i F_i, A_i = D_i + w_i w_i' / w_icc",
    few_classes,
)
def R16(study: Study) -> Iterator[Comparison]:
    """Compare second moments, and the law with the covariance of all errors."""
    few, d = study.once(few_samples), 3
    rng = np.random.default_rng(study.seed)
    n, C = few.p.shape
    w = np.exp(rng.standard_normal((n, C))) / n
    s1, s2, s3 = rng.uniform(0.5, 2, 3).tolist()
    levels = {"class_covariance": s1, "cross_covariance": s2}
    population = Population(few.sizes, d, w, s3, score_consistent=True, **levels)
    A, F = scores.matrix_weights(population), rng.standard_normal((n, C, d))
    # the errors of a sample as a map of F: the own one from the odds of the others
    every, own = np.arange(n), few.labels
    J = np.tile(np.eye(C), (n, 1, 1))
    J[every, own] = -w / w[every, own][:, None]
    J[every, own, own] = 0
    moment, mixed = _moment(J @ F, w[:, :, None] * np.eye(C)), _moment(F, A)
    size = _moment(np.abs(J @ F), w[:, :, None] * np.eye(C)) + _moment(np.abs(F), A)
    bound = rounding.gamma(16 * (n + C), _U) * size
    k = int(np.argmax(np.abs(moment - mixed) - bound))
    away = float(np.abs(moment - mixed).flat[k])
    yield away, float(bound.flat[k]), float(size.flat[k]), "second moment"
    label, cell = np.repeat(own, C), np.tile(np.arange(C), n)
    same = label[:, None] == label
    covariance = s1 * same + s2 * (same & (cell[:, None] == cell)) + s3 * np.eye(n * C)
    rows = np.sqrt(w)[:, :, None] * J
    wide = np.zeros((n, C, n, C))
    wide[every, :, every, :] = rows
    X = wide.reshape(n * C, n * C)
    exact = np.linalg.eigvalsh(X @ covariance @ X.T)
    law = reduction(population).law
    found = np.sort(np.repeat(law.scales, law.counts.astype(int)))
    radius = (n * C + 4) * rounding.eigensolver_radius(n * C, float(exact[-1]), _U)
    radius += rounding.gamma(4 * n * C + 8, _U) * float(exact.sum())
    padded = np.append(np.zeros(n * C - len(found)), found)
    yield float(np.max(np.abs(padded - exact))), radius, exact[-1], "its reduction"


@identity(
    "Several layers together",
    "errors of layers one after the other are a nested design, covariances in blocks",
    few_classes,
)
def R17(study: Study) -> Iterator[Comparison]:
    """Compare the expected moment of two layers stacked with that of each."""
    few, rng = study.once(few_samples), np.random.default_rng(study.seed)
    C, sides = few.p.shape[1], (2, 3)
    layers = [
        Population(
            few.sizes,
            d,
            few.w,
            rng.uniform(0.5, 2, d),
            class_means=rng.standard_normal((C, d)),
            cross_covariance=float(rng.uniform(0.5, 2)),
        )
        for d in sides
    ]
    joint, both = stacked(layers), []
    for x in (joint, *layers):
        both.append(np.asarray(sum(expectations.cross_moment(x, c) for c in range(C))))
    whole, first, second = both
    b = sides[0]
    bound = rounding.gamma(64 * few.w.size, _U) * float(np.trace(whole))
    for here, there, what in (
        (whole[:b, :b], first, "first"),
        (whole[b:, b:], second, "second"),
    ):
        away = float(np.max(np.abs(here - there)))
        yield away, bound, float(np.max(there)), f"expected, {what} layer"
    # what both layers share is their means
    weights = np.stack([np.sum(few.w[few.labels == c]) for c in range(C)])
    one, two = (x.class_means for x in layers)
    assert one is not None
    assert two is not None
    there = (one * weights[:, None]).T @ two
    away = float(np.max(np.abs(whole[:b, b:] - there)))
    yield away, bound, float(np.max(np.abs(there))), "expected, between both"


def _moment(x: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Return the sum of x_i' A_i x_i, x (n, K, d)."""
    return np.asarray(np.sum(np.swapaxes(x, 1, 2) @ A @ x, axis=0))
