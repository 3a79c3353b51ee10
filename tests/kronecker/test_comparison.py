"""What a comparison of spectra is, in numbers that are known."""

import numpy as np
import pytest

from refspec import Layer, rounding, snapshot
from refspec.kronecker import (
    KroneckerBasis,
    cfac,
    compare_layer,
    comparison,
    ekfac,
    kfac,
)
from refspec.kronecker.leading import Leading, OnHost
from support.snapshots import sampled

U = 2.0**-53


def test_log10_errors_are_root_mean_squares_of_decades():
    """Off by 2, 0, 0 and 1 decades: a mean would say .75, natural logarithms more."""
    found = {
        "fisher": np.array([1000.0, 100.0, 10.0, 1.0]),
        "kfac": np.array([10.0, 100.0, 10.0, 10.0]),
        "cfac": np.array([1000.0, 100.0, 10.0, 0.0]),  # 0 counts as the radius
    }
    errors = comparison._log10_errors(found, 0.125)
    assert set(errors) == {"kfac", "cfac"}
    for name, exact in (("kfac", 5**0.5 / 2), ("cfac", np.log10(8) / 2)):
        assert abs(errors[name] - exact) <= rounding.gamma(32, U) * exact
    none = {name: x[:0] for name, x in found.items()}
    assert comparison._log10_errors(none, 0.125) == {"kfac": 0.0, "cfac": 0.0}


def test_frobenius_errors_are_relative_norms():
    def at(A):
        return OnHost(lambda V: A @ V, A[0], lambda: A)

    F = np.diag([3.0, 4.0])
    found = comparison._frobenius_errors(at(F), {"half": at(F / 2), "same": at(F)})
    assert found == {"half": 0.5, "same": 0.0}
    none = comparison._frobenius_errors(at(0 * F), {"half": at(F), "same": at(0 * F)})
    assert none == {"half": np.inf, "same": 0.0}


def test_frobenius_errors_are_sums_over_blocks_of_columns(monkeypatch):
    """20 columns, 16 at a time, in the matrix's own precision."""
    F = np.diag(np.repeat(np.float32([3, 4]), 10))

    def at(A):
        def product(V):
            assert V.dtype == F.dtype
            return A @ V

        return OnHost(product, F[0], lambda: A)

    monkeypatch.setattr(comparison, "_ENTRIES", 1)
    found = comparison._frobenius_errors(at(F), {"half": at(F / 2), "none": at(0 * F)})
    assert found == {"half": 0.5, "none": 1.0}


def test_angles_of_top_vectors_descend():
    turned = np.array([[np.cos(0.5), 0], [0, np.cos(1.0)], [np.sin(0.5), 0], [0, 0]])
    turned[3, 1] = np.sin(1.0)
    one, other = (
        Leading(np.ones(2), x, 0.0, "exact") for x in (np.eye(4)[:, :2], turned)
    )
    found = comparison._angles(one, other, 2)
    assert np.abs(found - [1.0, 0.5]).max() <= rounding.gamma(256, U)


def test_the_top_of_a_kronecker_basis_comes_with_its_eigenvectors():
    rng = np.random.default_rng(0)
    Q, R = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (2, 3))
    values = np.array([[1.0, 5.0, 3.0], [6.0, 2.0, 4.0]])
    operator = KroneckerBasis(Q, R, values)
    found = comparison._basis_top(operator, 4, 0.25)
    assert found.values.tolist() == [6.0, 5.0, 4.0, 3.0]
    assert (found.radius, found.kind) == (0.25, "a posteriori")
    away = operator.matrix() @ found.vectors - found.vectors * found.values
    assert np.abs(away).max() <= rounding.gamma(256, U) * values.max()


def test_what_underflows_is_in_the_radius():
    tiny = np.finfo(np.float64).smallest_normal
    values, radius = comparison._rescaled({"fisher": np.ones(1)}, 2.0**-40, -1070)
    assert values["fisher"][0] == 2.0**-1070
    assert tiny <= radius <= 2 * tiny
    assert comparison._rescaled({"fisher": np.ones(1)}, 0.0, -1070)[1] == 0


def test_forming_is_counted_in_both_factors():
    """K4: gamma of NCT + 4 for a factor, twice in a product, with P rows."""
    s = sampled(0, (2, 3), [(4, 3)], T=2)
    at, _ = comparison._unit_layer(s, "fc", "expand")
    size = max(x.trace() for x in (at.moment, at.kfac, at.cfac))
    count = 2 * (5 * 2 * 2 + 4) + 4 * 3
    assert comparison._forming(at) == rounding.second_moment_radius(count, size, U)


@pytest.mark.parametrize("setting", ["expand", "reduce"])
def test_the_setting_reaches_every_approximation(setting):
    s = sampled(1, (4, 3), [(3, 2)], T=2)
    found = compare_layer(s, "fc", setting=setting)
    assert set(found.kinds) == {"fisher", "kfac", "ekfac", "cfac"}
    other = "reduce" if setting == "expand" else "expand"
    for name, f in (("kfac", kfac), ("ekfac", ekfac), ("cfac", cfac)):
        right, wrong = (
            np.asarray(f(s, "fc", setting=x).eigenvalues())[: len(found.fisher)]
            for x in (setting, other)
        )
        own = 2 * found.radius
        assert np.max(np.abs(found.eigenvalues[name] - right)) <= own
        assert np.max(np.abs(found.eigenvalues[name] - wrong)) > own


def test_a_layer_without_a_bulk_has_none_in_any_setting():
    """Errors and features that are those of their cell, at every position."""
    rng = np.random.default_rng(0)
    h, d = rng.standard_normal((3, 4)), rng.standard_normal((3, 3, 3))
    labels = np.repeat(np.arange(3), 2)
    layer = Layer(
        "fc",
        np.repeat(h[labels][:, None], 3, axis=1),
        np.repeat(d[labels][:, :, None], 3, axis=2),
    )
    s = snapshot([layer], labels, probabilities=np.full((6, 3), 1 / 3))
    for setting in ("expand", "reduce"):
        found = compare_layer(s, "fc", setting=setting)
        assert not any("bulk" in kinds for kinds in found.kinds.values())


def test_as_many_are_compared_as_are_asked_for():
    s = sampled(1, (4, 3, 5), [(3, 2)])
    whole = compare_layer(s, "fc")
    for top in (1, 2):
        found = compare_layer(s, "fc", top=top)
        assert found.fisher.tolist() == whole.fisher[:top].tolist()
        assert found.kinds == {n: x[:top] for n, x in whole.kinds.items()}


def test_the_dense_fisher_keeps_its_precision():
    s = sampled(1, (4, 3), [(3, 2)], equal=True)
    x = s.layers[0]
    single = snapshot(
        [Layer("fc", *(y.astype(np.float32) for y in (x.features, x.errors)))],
        s.labels,
        logits=np.zeros(s.probabilities.shape, dtype=np.float32),
    )
    assert comparison.layer_fisher(single, "fc").dtype == np.float32
