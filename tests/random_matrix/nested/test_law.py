"""The tree sweep and the fixed point against dense matrices and high precision."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import rounding
from refspec.populations import Population
from refspec.random_matrix import definite
from refspec.random_matrix.nested.design import nested_design
from refspec.random_matrix.nested.law import STEP, fixed_point, linearise
from refspec.random_matrix.nested.tree import sweep
from support.designs import designs

U = 2.0**-53


def effects(population):
    """Indicator matrices Z_r of the effects, in the order of the design, and W."""
    rows = [
        (i, c, k)
        for i, c in enumerate(population.labels)
        for k in range(population.K)
        if population.weights[i, k] > 0
    ]
    n = len(rows)
    weights = np.asarray([population.weights[i, k] for i, c, k in rows])
    of_class = np.asarray([c for i, c, k in rows])
    cells = [(c, k) for i, c, k in rows]
    names = sorted(set(cells))
    Z = []
    if isinstance(population.within_covariance, tuple):
        Z += [
            np.eye(n)[:, of_class == c]
            for c, s in enumerate(population.within)
            if np.any(s)
        ]
    else:
        Z.append(np.eye(n))
    if population.cross_covariance is not None:
        Z.append(np.asarray([[cell == name for name in names] for cell in cells]))
    if population.class_covariance is not None:
        classes = sorted(set(of_class))
        Z.append(np.asarray([[c == name for name in classes] for c in of_class]))
    return weights, [z.astype(float) for z in Z]


@pytest.mark.theorem("R9")
@given(designs(), st.integers(0, 2**31))
def test_sweep_is_the_gradient(population, seed):
    weights, Z = effects(population)
    design = nested_design(population)
    assert len(design.covariances) == len(Z)
    a = np.random.default_rng(seed).uniform(0.1, 2, len(Z))
    b, value, _ = sweep(design, a)
    total = np.diag(1 / weights) + sum(x * z @ z.T for x, z in zip(a, Z, strict=True))
    inverse = np.linalg.inv(total)
    exact = np.asarray([np.sum((inverse @ z) * z) for z in Z])
    condition = np.linalg.cond(total)
    n = len(weights)
    bound = rounding.gamma(64 * n, U) * condition * np.max(exact)
    assert np.all(np.abs(b - exact) <= bound)
    log = np.linalg.slogdet(np.diag(weights) @ total)[1]
    assert abs(value.real - log) <= rounding.gamma(64 * n, U) * condition * (1 + n)
    assert value.imag == 0


@pytest.mark.parametrize("fixed", ["class", "cross", "global"])
def test_projected_rows_are_an_infinite_effect(fixed):
    """A fixed level is the limit of a random one of infinite covariance."""
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 2, (7, 2))
    weights[0, 1] = 0
    shape = {"class": (2, 3), "cross": (2, 2, 3), "global": (3,)}[fixed]
    name = "global_mean" if fixed == "global" else f"{fixed}_means"
    population = Population((3, 4), 3, weights, 1.0, **{name: np.ones(shape)})
    design = nested_design(population)
    rows, Z = effects(Population((3, 4), 3, weights, 1.0))
    cells = [(int(i > 2), k) for i in range(7) for k in range(2) if weights[i, k] > 0]
    label = {"class": [c for c, _ in cells], "cross": cells, "global": [0] * len(cells)}
    names = sorted(set(label[fixed]))
    P = np.asarray([[x == y for y in names] for x in label[fixed]], dtype=float)
    a = 0.7
    V = np.linalg.inv(np.diag(1 / rows) + a * Z[0] @ Z[0].T)
    inner = P.T @ V @ P
    removed = V - V @ P @ np.linalg.solve(inner, P.T @ V)
    b, _, W = sweep(design, np.asarray([a]))
    bound = rounding.gamma(256, U) * np.trace(V) * np.linalg.cond(inner)
    assert abs(b[0] - np.trace(removed)) <= bound
    level = next(x for x, y in zip(W, design.levels, strict=True) if y.projected)
    assert np.all(np.abs(level - np.diag(inner)) <= bound)
    assert len(design.means) == len(names)


@pytest.mark.slow
@pytest.mark.theorem("R10")
@pytest.mark.parametrize("z", [2 + 0.5j, 30 + 0.01j, 8 + 3j])
def test_fixed_point_in_high_precision(z):
    """Damped iteration in 30 digits, from the definition."""
    d, n = 3, 8
    s3, s2 = np.asarray([1.0, 2.0, 4.0]), np.asarray([3.0, 1.0, 0.5])
    population = Population(
        (n, n), d, np.ones((2 * n, 1)), s3, cross_covariance=s2, class_covariance=None
    )
    design = nested_design(population)
    made = fixed_point(design, z, -design.traces / (z + 40j))
    assert made is not None
    with mpmath.workdps(30):
        zz = mpmath.mpc(z)
        a3, a2 = mpmath.mpc(0, 1), mpmath.mpc(0, 1)
        for _ in range(4000):
            # L = 2 (n log(1 + a3) + log(1 + a2 W)), W = n / (1 + a3)
            load = 1 + a3 + n * a2
            b3 = 2 * ((n - 1) / (1 + a3) + 1 / load)
            b2 = 2 * n / load
            Q = [
                1 / (b3 * mpmath.mpf(x) + b2 * mpmath.mpf(y) - zz)
                for x, y in zip(s3.tolist(), s2.tolist(), strict=True)
            ]
            new3 = mpmath.fsum(x * q for x, q in zip(s3.tolist(), Q, strict=True))
            new2 = mpmath.fsum(y * q for y, q in zip(s2.tolist(), Q, strict=True))
            change = abs(new3 - a3) + abs(new2 - a2)
            a3, a2 = (a3 + new3) / 2, (a2 + new2) / 2
        assert change < mpmath.mpf(10) ** -20
        exact = np.asarray([complex(a3), complex(a2)])
    # Newton's last step is squared; H by differences errs by u^(2/3)
    bound = 64 * np.max(np.abs(exact)) * (STEP**2 + U) * np.linalg.cond(made.defect)
    assert np.all(np.abs(made.a - exact) <= bound + 2.0**-36 * np.abs(exact))


@pytest.mark.parametrize("share", [1.0, 2.0**-16], ids=["one row free", "none"])
@given(st.integers(0, 2**31))
def test_full_covariances_agree_with_diagonal_ones(share, seed):
    """A rotation of all covariances changes nothing; Q and its slopes."""
    rng = np.random.default_rng(seed)
    d = 5
    s3, s2, s1 = rng.uniform(0.5, 2, (3, d)) * [[1.0], [share], [share]]
    R = np.linalg.qr(rng.standard_normal((d, d)))[0]
    weights = np.ones((8, 2))
    plain = Population((4, 4), d, weights, s3, cross_covariance=s2, class_covariance=s1)
    full = Population(
        (4, 4),
        d,
        weights,
        (R * s3) @ R.T,
        cross_covariance=(R * s2) @ R.T,
        class_covariance=(R * s1) @ R.T,
    )
    z, guess = 5 + 1j, np.full(3, 0.5 + 0.5j)
    a = fixed_point(nested_design(plain), z, guess)
    b = fixed_point(nested_design(full), z, guess)
    assert not nested_design(full).diagonal
    bound = rounding.gamma(2**10 * d, U) * np.linalg.cond(a.defect)
    # the Hessian is a difference quotient, right to the power 2 / 3 of u
    loose = 2.0**-30 * np.linalg.cond(a.defect)
    for name in ("a", "b", "traces"):
        left, right = getattr(a, name), getattr(b, name)
        assert np.max(np.abs(left - right)) <= bound * np.max(np.abs(left))
    for name in ("gain", "drift", "slope"):
        left, right = getattr(a, name), getattr(b, name)
        assert np.max(np.abs(left - right)) <= loose * np.max(np.abs(left))


def test_zero_covariance_is_no_effect():
    population = Population(
        (3, 3), 2, np.ones((6, 1)), (0.0, 1.0), class_covariance=1.0
    )
    design = nested_design(population)
    assert len(design.covariances) == 2
    with pytest.raises(ValueError, match="got none"):
        nested_design(Population((3,), 2, np.ones((3, 1)), 0.0))


def test_an_inverse_by_halves_that_is_off_is_not_used(monkeypatch):
    """A trace that is known shows it; the pivots are then the whole matrix."""
    rng, d = np.random.default_rng(3), 6
    root = rng.standard_normal((2, d, d))
    S = root @ root.transpose(0, 2, 1)
    population = Population((4, 4), d, np.ones((8, 1)), S[0], class_covariance=S[1])
    design = nested_design(population)
    z, a = 5 + 1j, np.full(2, 0.5 + 0.5j)
    right = linearise(design, z, a)
    monkeypatch.setattr(definite, "by_halves", lambda B: (1.01 * np.linalg.inv(B), ()))
    found = linearise(design, z, a)
    assert len(found.pivots) == 1
    bound = rounding.gamma(64 * d, U) * np.linalg.cond(found.pivots[0])
    away = np.linalg.norm(found.resolvent - right.resolvent)
    assert away <= bound * np.linalg.norm(right.resolvent)
