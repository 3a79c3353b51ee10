"""Shares of the Fisher, KFAC and CFAC against dense matrices of their levels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import backend, curvature, datasets, rounding, snapshot, structure
from refspec.kronecker import cfac, compare_layer, kfac, origins
from refspec.kronecker.eigenbasis import diagonalised
from support.snapshots import sampled, seeds, slack

U = 2.0**-53
OUTLIER, BUMP = ("diagonal", "between_class"), ("between_cross_class",)


def levels(moment, names):
    split = structure.decompose(moment).levels
    return sum(split[n].matrix() for n in names)


def check(found, parts, values, vectors, bound):
    """Shares times values are quadratic forms of the parts; swapped parts are not."""
    wrong = 0.0
    for kind, part in parts.items():
        exact = np.sum(vectors * (part @ vectors), axis=0)
        assert np.max(np.abs(found[kind] * values - exact)) <= bound
        wrong = max(wrong, np.max(np.abs(found["bulk"] * values - exact)))
    assert wrong > bound
    total = sum(found.values())
    assert np.max(np.abs(total - 1) * values) <= bound


@given(seed=seeds, C=st.integers(2, 4), T=st.integers(1, 2))
def test_shares_of_the_fisher(seed, C, T):
    """K16: v'(level)v / lambda, the levels those of the gradients."""
    s = sampled(seed, (3, 1, 4, 2)[:C], [(3, 2)], T)
    moment = curvature.fisher(s, ["fc"])
    values, vectors = np.linalg.eigh(moment.matrix())
    parts = {"outlier": levels(moment, OUTLIER), "bump": levels(moment, BUMP)}
    bound = slack(s, 64 * len(values) ** 2)
    check(origins.fisher_shares(moment, values, vectors), parts, values, vectors, bound)
    rows = origins.class_rows(moment)
    assert np.linalg.norm(rows.T @ rows - parts["outlier"]) <= bound
    assert origins.numerical_rank(rows, 64) <= C


@pytest.mark.parametrize("setting", ["expand", "reduce"])
@given(seed=seeds, C=st.integers(2, 4), T=st.integers(1, 2))
def test_shares_of_kfac_and_cfac(setting, seed, C, T):
    """K16: every error mean with every feature mean, or with its own class's."""
    s = sampled(seed, (3, 1, 4, 2)[:C], [(3, 2)], T)
    flat = origins.positions_apart(s, "fc", setting)
    one = kfac(s, "fc", setting=setting)
    assert np.linalg.norm(kfac(flat, "fc").matrix() - one.matrix()) <= slack(s)
    means = origins.factor_means(flat)
    moment, h = curvature.errors(flat, "fc"), curvature.features(flat, "fc")
    H = levels(h, ("global_mean", "between_class"))
    parts = {
        "outlier": np.kron(levels(moment, OUTLIER), H),
        "bump": np.kron(levels(moment, BUMP), H),
    }
    basis = diagonalised(one)
    bound = slack(s, 64 * one.dimension**2)
    found = {n: x.ravel() for n, x in origins.product_shares(means, basis).items()}
    Q = np.kron(basis.left, basis.right)
    check(found, parts, basis.values.ravel(), Q, bound)

    many = cfac(s, "fc", setting=setting)
    values, vectors = np.linalg.eigh(many.matrix())
    parts = dict.fromkeys(parts, 0.0)
    pi, own = many.coefficients, origins.own_means(means.features, many.coefficients)
    q = np.sqrt(flat.sample_weights[:, None] * flat.probabilities)
    rows = q[:, :, None] * flat.layers[0].errors[:, :, 0]
    for c in range(C):  # the levels of the class alone, by loops
        i, j = flat.offsets[c : c + 2]
        cell = [q[i:j, k] @ rows[i:j, k] / np.linalg.norm(q[i:j, k]) for k in range(C)]
        mass = np.asarray([np.linalg.norm(q[i:j, k]) for k in range(C)])
        others = [k for k in range(C) if k != c]
        along = sum(mass[k] * cell[k] for k in others) / np.linalg.norm(mass[others])
        outer = {"outlier": np.outer(along, along) + np.outer(cell[c], cell[c])}
        around = [
            cell[k] - mass[k] / np.linalg.norm(mass[others]) * along for k in others
        ]
        outer["bump"] = sum(np.outer(x, x) for x in around)
        for kind, D in outer.items():
            parts[kind] = parts[kind] + np.kron(D, np.outer(own[c], own[c]))
    args = (means, pi, values, vectors)
    check(origins.class_shares(*args), parts, values, vectors, bound)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_rank_counts_what_stands_above_rounding(sign):
    """Two R = diag(1, s): s^2 a tenth below or above what rounding can make."""
    floor = rounding.second_moment_radius(2 * 64 + 2 + 2, 1.0, U)
    rows = np.diag([1.0, (floor * (1 + sign / 10)) ** 0.5])
    assert origins.numerical_rank(rows, 64) == (2 if sign > 0 else 1)


def test_a_class_without_a_level_has_a_row_of_zeros():
    """Labels certain: nothing between classes, nor in cross classes."""
    s = sampled(0, (2, 3), [(3, 2)])
    sure = np.eye(2)[s.labels]
    s = snapshot(list(s.layers), s.labels, probabilities=sure)
    rows = origins.class_rows(curvature.fisher(s, ["fc"]))
    assert np.all(np.isfinite(rows))
    assert origins.numerical_rank(rows, 64) == 2


def test_kfac_counts_c_squared_where_the_fisher_counts_c():
    """K13, K16: a trained layer with its 10 classes."""
    found = compare_layer(datasets.digits_mlp(), "fc3")
    assert found.class_rank == {"fisher": 10, "kfac": 9 * 10, "cfac": 10}
    assert all(len(x) == len(found.fisher) for x in found.kinds.values())
    assert found.kinds["kfac"].count("outlier") > 10
    assert found.kinds["cfac"].count("outlier") <= 10
    assert found.kinds["fisher"].count("outlier") <= 10


def test_kinds_in_another_namespace(asarray):
    s = sampled(1, sides=[(3, 2)], equal=True)
    other = type(s)(
        tuple(
            type(x)(x.name, asarray(x.features), asarray(x.errors)) for x in s.layers
        ),
        asarray(s.probabilities),
        s.labels,
        asarray(s.sample_weights),
    )
    here, there = compare_layer(s, "fc"), compare_layer(other, "fc")
    assert here.kinds == there.kinds
    assert here.class_rank == there.class_rank
    assert isinstance(backend.to_host(there.fisher), np.ndarray)
