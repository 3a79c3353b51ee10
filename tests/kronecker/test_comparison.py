"""What a comparison of spectra is, in numbers that are known."""

import numpy as np

from refspec import rounding
from refspec.kronecker import KroneckerBasis, comparison
from refspec.kronecker.leading import Leading, OnHost

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
    assert found.radius == 0.25
    away = operator.matrix() @ found.vectors - found.vectors * found.values
    assert np.abs(away).max() <= rounding.gamma(256, U) * values.max()
