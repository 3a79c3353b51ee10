"""Closed-form spectra of the expected Fisher, against algebra and the eigensolver."""

from fractions import Fraction as F

import numpy as np
import pytest

from refspec import rounding
from refspec.synthetic import geometry, groups, logistic
from refspec.synthetic.groups import Group

U = 2.0**-53


def spread_out(found):
    """List the eigenvalues of groups, each as often as its multiplicity."""
    return np.sort(np.repeat([g.value for g in found], [g.multiplicity for g in found]))


def canonical_matrix(C, D, s, alpha):
    moments = np.stack([np.eye(D) for _ in range(C)])
    moments[np.arange(C), np.arange(C), np.arange(C)] += s
    return logistic.mixture_fisher(
        np.full(C, 1 / C), moments, geometry.confusion(C, alpha)
    )


def solver_bound(matrix):
    """Eigenvalue error: solver, plus forming sums of C rounded Kronecker products."""
    n = len(matrix)
    size = float(np.linalg.norm(matrix))
    return rounding.eigensolver_radius(n, size, U) + rounding.gamma(64, U) * 4 * size


@pytest.mark.parametrize("C", range(2, 8))
@pytest.mark.parametrize("extra", [0, 1, 4])
@pytest.mark.parametrize(
    ("s", "alpha"), [(4.0, 0.1), (0.5, 0.4), (9.0, None), (0, 0.2)]
)
def test_theorem_8_1(C, extra, s, alpha):
    alpha = (C - 1) / C if alpha is None else alpha
    matrix = canonical_matrix(C, C + extra, s, alpha)
    found = groups.canonical_groups(C, C + extra, signal=s, alpha=alpha)
    values, bound = np.linalg.eigvalsh(matrix), solver_bound(matrix)
    assert sum(g.multiplicity for g in found) == C * (C + extra)
    assert np.max(np.abs(values - spread_out(found))) <= bound

    k, D = alpha / (C - 1), C + extra
    outlier, bump, bulk, null = found
    undiagonal = Group("class term only", k * s * (1 - alpha) ** 2 + bulk.value, C)
    wide = Group("bump", bump.value, C * (C - 1))
    short = Group("null", 0.0, D - C)  # keep the count at CD
    mutants = []
    if s and C > 2:
        mutants.append((outlier, wide, bulk, short))
    if s:
        mutants.append((undiagonal, bump, bulk, null))
        mutants.append((Group("no C", k * s + bulk.value, C), bump, bulk, null))
    for mutant in mutants:
        assert not np.max(np.abs(values - spread_out(mutant))) <= bound


def kron(A, B):
    return [[x * y for x in r for y in q] for r in A for q in B]


def product(A, B):
    return [
        [sum(x * y for x, y in zip(r, c, strict=True)) for c in zip(*B, strict=True)]
        for r in A
    ]


def shifted(A, x):
    return [[v - x * (i == j) for j, v in enumerate(r)] for i, r in enumerate(A)]


@pytest.mark.parametrize(("C", "D"), [(2, 2), (2, 3), (3, 3), (3, 4)])
def test_theorem_8_1_in_exact_arithmetic(C, D):
    """The minimal polynomial vanishes and the power sums fix the multiplicities."""
    s, alpha = F(3), F(1, 4)
    k = alpha / (C - 1)
    G = [[F(0)] * (C * D) for _ in range(C * D)]
    for c in range(C):
        p = [1 - alpha if j == c else k for j in range(C)]
        fisher = [[p[i] * ((i == j) - p[j]) for j in range(C)] for i in range(C)]
        inputs = [[F(i == j) + s * (i == j == c) for j in range(D)] for i in range(D)]
        G = [
            [g + x / C for g, x in zip(r, q, strict=True)]
            for r, q in zip(G, kron(fisher, inputs), strict=True)
        ]
    a = k * (2 - alpha * C / (C - 1))
    exact = [
        (k * s * (1 - alpha) + a, C),
        (k * s / C + a, C * (C - 2)),
        (a, (D - C) * (C - 1)),
        (F(0), D),
    ]
    present = [(x, m) for x, m in exact if m]
    vanishing, power = [[F(i == j) for j in range(C * D)] for i in range(C * D)], G
    for x, _ in present:
        vanishing = product(vanishing, shifted(G, x))
    assert all(v == 0 for r in vanishing for v in r)
    for exponent in range(1, 4):
        assert sum(power[i][i] for i in range(C * D)) == sum(
            m * x**exponent for x, m in present
        )
        power = product(power, G)
    # the code evaluates the same rationals: each value within its own rounding
    code = groups.canonical_groups(C, D, signal=3.0, alpha=0.25)
    for group, (x, m) in zip(code, exact, strict=True):
        assert group.multiplicity == m
        assert abs(F(group.value) - x) <= F(rounding.gamma(16, U)) * 2 * x


@pytest.mark.parametrize(("C", "b", "a"), [(2, 2, 2), (3, 4, 5), (4, 4, 6)])
@pytest.mark.parametrize("coupling", [0.0, 0.5, -1.0])
def test_independent_groups(C, b, a, coupling):
    d2, h2, vd, vh = 4.0, 9.0, 0.5, 0.25
    matrix = coupling * vd * vh * np.eye(a * b)
    for c in range(C):
        e = d2 * np.diag(np.arange(b) == c) + vd * np.eye(b)
        f = h2 * np.diag(np.arange(a) == c) + vh * np.eye(a)
        matrix += np.kron(e, f) / C
    found = groups.independent_groups(
        C,
        b,
        a,
        error_norm=2,
        feature_norm=3,
        error_noise=vd,
        feature_noise=vh,
        coupling=coupling,
    )
    values, bound = np.sort(np.diag(matrix)), solver_bound(matrix)
    assert np.max(np.abs(values - spread_out(found))) <= bound
    # what KFAC would say: every class's errors with every class's features
    kfac = Group("matched", d2 * h2 / C**2 + found[1].value, C * C)
    mutant = (kfac, Group("none", 0.0, 0), *found[2:])
    assert not np.max(np.abs(values - spread_out(mutant))) <= bound


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: groups.expect_canonical(3, 2, 1.0, 0.1), "C = 3, D = 2"),
        (lambda: groups.expect_canonical(3, 3, 1.0, 0.7), "got 0.7"),
        (lambda: groups.expect_canonical(3, 3, 1.0, 0.0), "got 0.0"),
        (lambda: groups.expect_canonical(3, 3, -1.0, 0.1), "got -1"),
        (
            lambda: groups.independent_groups(
                3, 2, 3, error_norm=1, feature_norm=1, error_noise=1, feature_noise=1
            ),
            "b = 2, a = 3",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
