"""Expected levels against the same statement in loops over exact fractions.

The oracle knows nothing of coefficients: it writes a level's second moment as a
quadratic form of the vector of all F_{i,c'} by evaluating its definition on basis
vectors, and takes the expectation m'Am + tr(A Cov), everything in Fraction.
"""

import itertools
from dataclasses import replace
from fractions import Fraction as F

import numpy as np
import pytest

from refspec import rounding
from refspec.populations import KroneckerPopulation, Population
from refspec.synthetic import expectations

U = 2.0**-53
NAMES = ("diagonal", "between_class", "between_cross_class", "within_cross_class")
COUNTS = (2, 1, 5)
LABELS = np.repeat(range(3), COUNTS)
SIGNS = tuple(itertools.product((-1, 1), repeat=2))


def error_forms(x, w, labels):
    """The four levels of one-dimensional errors x[i][k], by their definitions."""
    C, out = len(w[0]), dict.fromkeys(NAMES, F(0))
    for c in range(C):
        mine = [i for i in range(len(x)) if labels[i] == c]
        mass = [sum(w[i][k] for i in mine) for k in range(C)]
        cross = [
            sum(w[i][k] * x[i][k] for i in mine) / mass[k] if mass[k] else F(0)
            for k in range(C)
        ]
        miss = sum(mass[k] for k in range(C) if k != c)
        center = sum(mass[k] * cross[k] for k in range(C) if k != c)
        center = center / miss if miss else F(0)
        out["diagonal"] += mass[c] * cross[c] ** 2
        out["between_class"] += miss * center**2
        for k in range(C):
            if k != c:
                out["between_cross_class"] += mass[k] * (cross[k] - center) ** 2
            for i in mine:
                out["within_cross_class"] += w[i][k] * (x[i][k] - cross[k]) ** 2
    return out


def feature_forms(x, s, labels):
    """The three levels of one-dimensional features x[i]."""
    C = max(labels) + 1
    overall = sum(a * b for a, b in zip(s, x, strict=True))
    out = {"global_mean": overall**2, "between_class": F(0), "within_class": F(0)}
    for c in range(C):
        mine = [i for i in range(len(x)) if labels[i] == c]
        mass = sum(s[i] for i in mine)
        mean = sum(s[i] * x[i] for i in mine) / mass
        out["between_class"] += mass * (mean - overall) ** 2
        out["within_class"] += sum(s[i] * (x[i] - mean) ** 2 for i in mine)
    return out


def expected(forms, size, mean, covariance):
    """E x'Ax = m'Am + tr(A Cov), A found by polarisation of `forms`."""

    def at(*where):
        return forms([F(sum(j == k for k in where)) for j in range(size)])

    out, single = dict(forms(mean)), [at(j) for j in range(size)]
    for j in range(size):
        for k in range(size):
            if covariance[j][k]:
                both = at(j, k)
                for name in out:
                    entry = (both[name] - single[j][name] - single[k][name]) / 2
                    out[name] += entry * covariance[j][k]
    return out


def error_world(seed, consistent):
    """Random dyadic weights, means and variances: floats that are exact fractions."""
    rng = np.random.default_rng(seed)
    N, C = len(LABELS), 3
    p = rng.integers(1, 8, (N, C)) / 8.0
    if seed == 1 and not consistent:
        p[LABELS == 0, 2] = 0  # a cross class without weight
    w = p / 64
    m = rng.integers(-4, 5, (C, C)) / 2.0
    law = Population(
        COUNTS,
        1,
        w,
        (1.0, 2.0, 0.25),
        cross_means=m[:, :, None],
        class_covariance=0.75,
        cross_covariance=0.5,
        score_consistent=consistent,
    )
    return law, m


def rows_and_covariance(w, m, consistent, absolute=False):
    """T_i F for every sample: mean and covariance of the vector of all (i, k)."""
    N, C, s3 = len(LABELS), 3, (F(1), F(2), F(1, 4))
    T = []
    for i in range(N):
        rows = [[F(j == k) for k in range(C)] for j in range(C)]
        c = LABELS[i]
        if consistent:
            rows[c] = [F(0) if k == c else -F(w[i, k]) / F(w[i, c]) for k in range(C)]
        T.append([[abs(v) for v in r] for r in rows] if absolute else rows)
    mean = []
    for i in range(N):
        mi = [F(v) for v in m[LABELS[i]]]
        mi = [abs(v) for v in mi] if absolute else mi
        mean += [sum(t * v for t, v in zip(r, mi, strict=True)) for r in T[i]]
    size = N * C
    covariance = [[F(0)] * size for _ in range(size)]
    for i in range(N):
        for j in range(N):
            if LABELS[i] != LABELS[j]:
                continue
            raw = [
                [
                    F(3, 4) + (k == q) * (F(1, 2) + (i == j) * s3[LABELS[i]])
                    for q in range(C)
                ]
                for k in range(C)
            ]
            for k in range(C):
                for q in range(C):
                    covariance[i * C + k][j * C + q] = sum(
                        T[i][k][a] * raw[a][b] * T[j][q][b]
                        for a in range(C)
                        for b in range(C)
                    )
    return mean, covariance


def within_bound(w, m, consistent):
    """gamma_k of the expected total of absolute values: every term is a part of it."""
    mean, covariance = rows_and_covariance(w, m, consistent, absolute=True)
    flat = [F(v) for v in w.reshape(-1)]
    total = sum(v * (mean[j] ** 2 + covariance[j][j]) for j, v in enumerate(flat))
    return rounding.gamma(40 * w.size, U) * float(total)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("consistent", [False, True])
def test_error_levels_are_the_exact_expectations(seed, consistent):
    law, m = error_world(seed, consistent)
    w = law.weights
    weights = [[F(v) for v in r] for r in w]
    mean, covariance = rows_and_covariance(w, m, consistent)

    def forms(x):
        return error_forms([x[3 * i : 3 * i + 3] for i in range(8)], weights, LABELS)

    exact = expected(forms, 24, mean, covariance)
    found = expectations.error_levels(law)
    bound = within_bound(w, m, consistent)
    for name in NAMES:
        assert abs(float(exact[name]) - found[name].item()) <= bound
    # mutants: no correction for the finite class, and c' = c kept in the class mean
    spread = sum(w[c == LABELS].sum() * s for c, s in enumerate((1.0, 2.0, 0.25)))
    assert not abs(float(exact["within_cross_class"]) - spread) <= bound
    merged = found["between_class"].item() + found["diagonal"].item()
    assert not abs(float(exact["between_class"]) - merged) <= bound
    if consistent:  # W8: the diagonal is the class term over the odds
        plain = expectations.error_levels(replace(law, score_consistent=False))
        off = abs(float(exact["diagonal"]) - plain["diagonal"].item())
        assert not off <= bound


def test_feature_levels_are_the_exact_expectations():
    s = np.asarray([1, 3, 2, 1, 1, 4, 2, 2]) / 16.0
    m = np.asarray([[1.0], [-0.5], [2.0]])
    law = Population(
        COUNTS, 1, s[:, None], (1.0, 2.0, 0.25), class_means=m, class_covariance=0.75
    )
    s3 = (F(1), F(2), F(1, 4))
    covariance = [
        [
            (LABELS[i] == LABELS[j]) * F(3, 4) + (i == j) * s3[LABELS[i]]
            for j in range(8)
        ]
        for i in range(8)
    ]
    weights, mean = [F(v) for v in s], [F(m[c, 0]) for c in LABELS]
    exact = expected(lambda x: feature_forms(x, weights, LABELS), 8, mean, covariance)
    found = expectations.feature_levels(law)
    total = sum(v * (mean[i] ** 2 + covariance[i][i]) for i, v in enumerate(weights))
    bound = rounding.gamma(200, U) * float(total)
    for name in exact:
        assert abs(float(exact[name]) - found[name].item()) <= bound
    naive = sum(s[c == LABELS].sum() * float(v) for c, v in enumerate(s3))
    assert not abs(float(exact["within_class"]) - naive) <= bound


def test_levels_add_to_the_total_in_every_direction():
    rng = np.random.default_rng(5)
    root = rng.standard_normal((2, 3, 3))
    cross_means = rng.standard_normal((3, 3, 3))
    w = rng.dirichlet(np.ones(3), 8) / 8
    for consistent in (False, True):
        law = Population(
            COUNTS,
            3,
            w,
            root[1] @ root[1].T,
            global_mean=np.ones(3),
            cross_means=cross_means,
            class_covariance=root[0] @ root[0].T,
            cross_covariance=np.asarray([1.0, 2.0, 0.0]),
            score_consistent=consistent,
        )
        levels = expectations.error_levels(law)
        total = sum(expectations.cross_moment(law, c) for c in range(3))
        bound = rounding.gamma(40 * w.size, U) * np.trace(total)
        if consistent:  # the odds can cancel: bound by absolute values of the parts
            odds = max(w[i].sum() / w[i, c] for i, c in enumerate(LABELS))
            bound *= 3 * odds
        assert np.linalg.norm(total - sum(levels.values()), 2) <= bound
        for name in NAMES:  # positive semidefinite up to the same rounding
            low = np.linalg.eigvalsh(levels[name])[0]
            assert low >= -bound - rounding.eigensolver_radius(3, np.trace(total), U)


@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("coupling", [0.0, 0.25, -0.25])
def test_fisher_by_enumeration(consistent, coupling):
    """Two-point scales, all outcomes enumerated; noise enters by its variance alone.

    Given the sign z of a sample, E delta^2 = m^2 + (1 +- r z) S and E h^2 = h^2 +
    (1 + r z) S_h, r^2 = |coupling|, and they are independent.
    """
    drawn, m = error_world(2, consistent)
    w = drawn.weights
    law = replace(drawn, class_covariance=None, cross_covariance=None)
    means = np.asarray([[1.0], [-2.0], [0.5]])
    features = Population(
        COUNTS, 1, np.ones((8, 1)), (4.0, 1.0, 2.0), class_means=means
    )
    both = KroneckerPopulation(law, features, coupling)
    r, sign = F(1, 2) * (coupling != 0), (coupling > 0) - (coupling < 0)

    def second_error(i, z):
        c, out = LABELS[i], F(0)
        for k in range(3):
            row = [F(j == k) for j in range(3)]
            if consistent and k == c:
                row = [-F(w[i, j]) / F(w[i, c]) * (j != c) for j in range(3)]
            mean = sum(t * F(v) for t, v in zip(row, m[c], strict=True))
            noise = sum(t * t for t in row) * F(law.within[c])
            out += F(w[i, k]) * (mean**2 + (1 + sign * r * z) * noise)
        return out

    def second_feature(i, z):
        c = LABELS[i]
        return F(features.class_means[c, 0]) ** 2 + (1 + r * z) * F(features.within[c])

    def average(i, j):
        """E D_i H_j over the signs of both samples, one sign if i = j."""
        signs = [(z, z) for z in (-1, 1)] if i == j else SIGNS
        pairs = [second_error(i, y) * second_feature(j, z) for y, z in signs]
        return sum(pairs) / len(pairs)

    fisher = sum(average(i, i) for i in range(8))
    factors = conditional = F(0)
    for c in range(3):
        mine = [i for i in range(8) if LABELS[i] == c]
        mass = sum(F(v) for i in mine for v in w[i])
        errors = sum(second_error(i, 0) for i in mine)
        factors += errors * second_feature(mine[0], 0)
        for i in mine:
            for j in mine:
                conditional += average(i, j) * sum(F(v) for v in w[j]) / mass
    assert (fisher == factors) == (coupling == 0)
    found = expectations.fisher_of_layers([both])
    bound = rounding.gamma(800, U) * 4 * float(fisher + factors)
    assert abs(found.item() - float(fisher)) <= bound
    for sampled, other in ((False, factors), (True, conditional)):
        gap = expectations.fisher_coupling(both, sampled=sampled).item()
        assert abs(gap - float(fisher - other)) <= bound
        assert np.sign(gap) == np.sign(coupling)
        if coupling:  # each is told from the other, and from no coupling at all
            wrong = conditional if other is factors else factors
            assert not abs(gap - float(fisher - wrong)) <= bound
            assert not abs(gap) <= bound


def test_fisher_between_layers_is_that_of_the_means():
    rng = np.random.default_rng(7)
    w = rng.dirichlet(np.ones(3), 8) / 8

    def layer(b, a):
        m, h = rng.standard_normal((3, 3, b)), rng.standard_normal((3, a))
        return KroneckerPopulation(
            Population(COUNTS, b, w, 1.0, cross_means=m, score_consistent=True),
            Population(COUNTS, a, np.full((8, 1), 1 / 8), 1.0, class_means=h),
        )

    layers = [layer(2, 3), layer(4, 1)]
    G = expectations.fisher_of_layers(layers)
    block, size = np.zeros((6, 4)), 0.0
    for i, c in enumerate(LABELS):
        g = []
        for x in layers:
            e = x.errors.cross_means[c].copy()
            e[c] = -sum(w[i, k] / w[i, c] * e[k] for k in range(3) if k != c)
            g.append([np.kron(row, x.features.class_means[c]) for row in e])
        for k in range(3):
            block += w[i, k] * np.outer(g[0][k], g[1][k])
            size += w[i, k] * np.linalg.norm(g[0][k]) * np.linalg.norm(g[1][k])
    odds = max(w[i].sum() / w[i, c] for i, c in enumerate(LABELS))
    bound = rounding.gamma(200, U) * size * 4 * odds**2
    assert np.linalg.norm(G[:6, 6:] - block, 2) <= bound
    assert np.array_equal(G[6:, :6], G[:6, 6:].T)
    assert not np.linalg.norm(block, 2) <= bound  # independent is not orthogonal


def test_no_weight_and_one_sample():
    """A class of one sample has no within level; no mass gives no level."""
    w = np.asarray([[0.5, 0.0], [0.0, 0.5]])
    levels = expectations.error_levels(Population((1, 1), 1, w, 1.0))
    assert [levels[name].item() for name in NAMES] == [1.0, 0.0, 0.0, 0.0]
