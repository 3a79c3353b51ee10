"""Kronecker operators against dense matrices, exactly where numbers are whole."""

import itertools
import math
from fractions import Fraction

import array_api_strict
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refspec import backend, rounding
from refspec.kronecker import (
    BlockDiagonal,
    Kronecker,
    KroneckerBasis,
    KroneckerSum,
    damped_inverse,
    factored_tikhonov,
)
from refspec.kronecker.eigenbasis import diagonalised
from refspec.kronecker.eigensystems import certified_spectrum, unit_scaled
from refspec.kronecker.operators import column_stacked, linear_operator, row_major
from support.snapshots import seeds

U = 2.0**-53


def frozen(x):
    x = np.array(x)
    x.setflags(write=False)
    return x


NAMESPACES = {"numpy": np.asarray, "frozen": frozen, "strict": array_api_strict.asarray}
everywhere = pytest.mark.parametrize("make", NAMESPACES.values(), ids=NAMESPACES)
sides = st.integers(1, 5)


def whole(rng, *shape):
    """Symmetric matrices of small whole numbers: arithmetic on them is exact."""
    x = rng.integers(-4, 5, shape).astype(np.float64)
    return x + np.swapaxes(x, -1, -2)


def psd(rng, n, rank):
    x = rng.standard_normal((rank, n))
    return x.T @ x


@everywhere
@given(seed=seeds, b=sides, a=sides, m=st.integers(1, 3))
@example(seed=0, b=1, a=1, m=1)
def test_products_are_those_of_the_dense_matrix(make, seed, b, a, m):
    """K1, exact: whole numbers, so the residual must be zero."""
    rng = np.random.default_rng(seed)
    left, right = whole(rng, b, b), whole(rng, a, a)
    lefts, rights = whole(rng, m, b, b), whole(rng, m, a, a)
    c = rng.integers(-3, 4, m).astype(np.float64)
    one = Kronecker(make(left), make(right))
    many = KroneckerSum(make(c), make(lefts), make(rights))
    both = BlockDiagonal((one, many))
    sums = sum(x * np.kron(L, R) for x, L, R in zip(c, lefts, rights, strict=True))
    V = rng.integers(-4, 5, (a * b, 3)).astype(np.float64)
    for operator, matrix in ((one, np.kron(left, right)), (many, sums)):
        assert np.array_equal(backend.to_host(operator.matrix()), matrix)
        assert np.array_equal(backend.to_host(operator.matmat(make(V))), matrix @ V)
        assert np.array_equal(
            backend.to_host(operator.matvec(make(V[:, 0]))), matrix @ V[:, 0]
        )
        assert operator.trace() == np.trace(matrix)
        seen = linear_operator(operator)
        assert np.array_equal(seen @ V, matrix @ V)
        assert np.array_equal(seen @ V.astype(int), matrix @ V)  # whatever SciPy has
        assert np.array_equal(seen.T @ V[:, 0], matrix @ V[:, 0])
        assert seen.dtype == V.dtype
        stacked = operator.column_stacked().matvec(column_stacked(make(V), b, a))
        assert np.array_equal(backend.to_host(row_major(stacked, b, a)), matrix @ V)
        norm = np.linalg.norm(matrix)
        bound = rounding.gamma(2 * (a * b) ** 2 + 8, U) * norm
        if operator is many:  # cancellation between terms: bounded by their sizes
            terms = (
                abs(x) * np.linalg.norm(L) * np.linalg.norm(R)
                for x, L, R in zip(c, lefts, rights, strict=True)
            )
            assert (
                abs(many.frobenius_norm() ** 2 - norm**2)
                <= rounding.gamma(4 * (a * b) ** 2 + 8, U) * sum(terms) ** 2
            )
        else:
            assert abs(one.frobenius_norm() - norm) <= bound
    VV = np.concatenate([V, V[::-1]])
    expected = np.concatenate([one.matrix() @ make(V), many.matrix() @ make(V[::-1])])
    assert np.array_equal(backend.to_host(both.matvec(make(VV))), expected)
    assert np.array_equal(backend.to_host(both.matrix()) @ VV, expected)
    assert both.trace() == one.trace() + many.trace()


def test_the_wrong_order_is_noticed():
    """Mutant of K1: features (x) errors applied to row-major vectors."""
    left, right = np.diag([1.0, 2.0]), np.diag([3.0, 5.0, 7.0])
    v = np.arange(6.0)
    right_order = Kronecker(left, right).matvec(v)
    assert not np.array_equal(Kronecker(right, left).matvec(v), right_order)
    V = v.reshape(2, 3)
    assert np.array_equal(right_order, (left @ V @ right).ravel())
    assert np.array_equal(column_stacked(v, 2, 3), V.ravel("F"))


@everywhere
@given(seed=seeds, b=sides, a=sides, m=st.integers(1, 3))
@example(seed=1, b=5, a=5, m=1)
def test_spectrum_of_a_sum_from_its_roots(make, seed, b, a, m):
    """K3: the Gram side and the dense side agree; unsquared coefficients do not."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(0.5, 2, m)
    roots = [
        (rng.standard_normal((1, b)), rng.standard_normal((2, a))) for _ in range(m)
    ]
    lefts = np.stack([L.T @ L for L, _ in roots])
    rights = np.stack([R.T @ R for _, R in roots])
    made = tuple((make(L), make(R)) for L, R in roots)
    operator = KroneckerSum(make(c), make(lefts), make(rights), made)
    plain = KroneckerSum(make(c), make(lefts), make(rights))
    exact, outer = plain.certified_eigenvalues()
    exact = backend.to_host(exact)
    for x in (operator, operator.column_stacked()):
        values, radius = x.certified_eigenvalues()
        bound = outer + radius
        assert np.max(np.abs(backend.to_host(values) - exact)) <= bound
    if 2 * m < a * b:
        mutant = KroneckerSum(make(c**2), make(lefts), make(rights), made)
        assert np.max(np.abs(backend.to_host(mutant.eigenvalues()) - exact)) > bound
    dense = backend.to_host(plain.matrix())
    norm = float(np.linalg.norm(dense))
    # no cancellation: entries are sums of squares in both
    slack = rounding.gamma(2 * (a * b) ** 2 + 2 * (m + 4) ** 2, U) * norm**2
    assert abs(plain.frobenius_norm() ** 2 - norm**2) <= slack
    assert abs(plain.trace() - np.trace(dense)) <= slack / norm * a * b


@everywhere
@pytest.mark.parametrize(("b", "a"), list(itertools.product((1, 4), (1, 3))))
def test_eigenbasis_and_damped_inverses(make, b, a):
    """K2, K10: the basis reproduces the operator; its inverses invert."""
    rng = np.random.default_rng(b + a)
    H, D, lam = psd(rng, a, 2), psd(rng, b, 2), 0.3
    kron = Kronecker(make(D), make(H))
    basis = diagonalised(kron)
    dense, n = np.kron(D, H), a * b
    norm = float(np.linalg.norm(dense))
    # LAPACK's backward error, then three products with nearly orthogonal factors
    error = rounding.gamma(12 * (a + b) * n, U)
    assert np.linalg.norm(backend.to_host(basis.matrix()) - dense) <= error * norm
    eye = np.eye(n)
    damped = backend.to_host(damped_inverse(basis, lam).matmat(make(eye)))
    condition = (norm + lam) / lam
    residual = np.linalg.norm((dense + lam * eye) @ damped - eye)
    assert residual <= error * n * condition
    split = np.sqrt(np.trace(H) / a / (np.trace(D) / b))
    left = D + np.sqrt(lam) / split * np.eye(b)
    right = H + np.sqrt(lam) * split * np.eye(a)
    whole_factor = np.kron(left, right)
    inverse = backend.to_host(factored_tikhonov(kron, lam).matrix())
    residual = np.linalg.norm(whole_factor @ inverse - eye)
    condition = np.linalg.norm(whole_factor) / lam
    assert residual <= error * n * condition
    # the mutant with the split inverted is no inverse
    if abs(split - 1) > error * n * condition:
        left = D + np.sqrt(lam) * split * np.eye(b)
        mutant = np.kron(left, H + np.sqrt(lam) / split * np.eye(a))
        assert np.linalg.norm(mutant @ inverse - eye) > error * n * condition


@everywhere
def test_a_basis_is_an_operator_like_the_others(make):
    swap = np.asarray([[0.0, 1.0], [1.0, 0.0]])
    values = np.arange(6.0).reshape(2, 3)
    basis = KroneckerBasis(make(swap), make(np.eye(3)), make(values))
    dense = np.diag(values[::-1].ravel())
    V = np.arange(12.0).reshape(6, 2)
    assert np.array_equal(backend.to_host(basis.matrix()), dense)
    assert np.array_equal(backend.to_host(basis.matmat(make(V))), dense @ V)
    assert np.array_equal(linear_operator(basis) @ V, dense @ V)
    stacked = basis.column_stacked().matvec(column_stacked(make(V), 2, 3))
    assert np.array_equal(backend.to_host(row_major(stacked, 2, 3)), dense @ V)
    assert basis.trace() == 15
    assert backend.to_host(basis.eigenvalues()).tolist() == [5, 4, 3, 2, 1, 0]
    both = BlockDiagonal((basis, basis))
    assert backend.to_host(both.eigenvalues()).tolist()[:4] == [5, 5, 4, 4]
    assert both.dimension == 12
    assert both.certified_eigenvalues()[1] == 0
    assert abs(both.frobenius_norm() ** 2 - 110) <= rounding.gamma(16, U) * 110


def test_tikhonov_of_a_zero_factor_has_no_scale():
    P = factored_tikhonov(Kronecker(np.zeros((2, 2)), np.eye(3)), 4.0)
    assert np.max(np.abs(P.values - 1 / (2 * 3))) <= 2 * U


def test_negative_eigenvalues_are_cut_off_before_damping():
    A = KroneckerBasis(np.eye(1), np.eye(3), np.array([[-1.0, 0.0, 6.0]]))
    assert damped_inverse(A, 2.0).values.tolist() == [[0.5, 0.5, 0.125]]


def test_a_product_is_as_uncertain_as_its_factors_are_large():
    """Eigenvalues of ones (x) B are 8 times B's, and so is what they may be off."""
    B = np.random.default_rng(0).standard_normal((5, 5))
    B = B + B.T
    own = certified_spectrum(B)[1]
    for pair in ((np.ones((8, 8)), B), (B, np.ones((8, 8)))):
        _, radius = Kronecker(*pair).certified_eigenvalues()
        assert 4 * own <= radius


def test_the_radius_of_a_product_is_that_of_its_factors():
    """K2 from both sides, in fractions: eigenvalues of factors off by their radii."""
    rng = np.random.default_rng(3)
    for b, a in ((2, 3), (12, 5)):
        D, H = psd(rng, b, b), psd(rng, a, a)
        left, right = (np.ldexp(x, -np.frexp(x.max())[1]) for x in (D, H))
        (mu, one), (nu, two) = certified_spectrum(left), certified_spectrum(right)
        top, other, one, two = map(Fraction, (mu[0], nu[0], one, two))
        exact = top * two + other * one + one * two + Fraction(U) * top * other
        _, radius = Kronecker(left, right).certified_eigenvalues()
        assert exact <= Fraction(radius) <= exact * (1 + Fraction(32 * U))


def test_values_of_a_product_descend():
    A = Kronecker(np.diag([1.0, -2.0]), np.diag([3.0, 5.0, 7.0]))
    assert A.eigenvalues().tolist() == [7, 5, 3, -6, -10, -14]


def test_the_radius_of_a_sum_counts_its_forming(monkeypatch):
    """K3 (ii): gamma of a + b + m + 4 + max(r + s) of the traces, and the solver's."""
    rng = np.random.default_rng(0)
    roots = tuple((rng.random((1, 3)), rng.random((2, 4))) for _ in range(2))
    lefts, rights = (np.stack([x[k].T @ x[k] for x in roots]) for k in (0, 1))
    A = KroneckerSum(np.asarray([0.75, 0.5]), lefts, rights, roots)
    with monkeypatch.context() as patch:  # the side of the roots is 4, not 12
        patch.setattr(KroneckerSum, "matrix", None)
        values, radius = A.certified_eigenvalues()
    traces = (np.trace(x, axis1=1, axis2=2) for x in (lefts, rights))
    size = float(np.sum(A.coefficients * math.prod(traces)))
    g = rounding.gamma(4 + 3 + 2 + 4 + (1 + 2), U)
    one, e = A._unit_scaled(np)  # exact, and what it is solved at
    own = np.ldexp(certified_spectrum(one._smaller(np))[1], e)
    expected = own + g * size * (1 + g)
    assert abs(radius - expected) <= rounding.gamma(16, U) * expected
    assert rounding.gamma(16, U) * expected < rounding.gamma(1, U) * size  # sees 1 more
    turned = A.column_stacked()
    assert [x[::-1] for x in turned.roots] == list(roots)
    assert np.max(np.abs(turned.certified_eigenvalues()[0] - values)) <= 2 * radius


@pytest.mark.parametrize("roots", [None, ()])
def test_a_sum_of_no_terms_is_zero(roots, asarray):
    shapes = ((0,), (0, 2, 2), (0, 3, 3))
    A = KroneckerSum(*(asarray(np.zeros(x)) for x in shapes), roots)
    assert not np.any(backend.to_host(A.matvec(asarray(np.ones((6, 2))))))
    assert A.trace() == A.frobenius_norm() == 0
    assert backend.to_host(A.eigenvalues()).tolist() == 6 * [0]
    assert A.certified_eigenvalues()[1] == 0
    one = KroneckerSum(*(asarray(np.ones((1, *x[1:]))) for x in shapes))
    assert one.matvec(asarray(np.zeros((6, 0)))).shape == (6, 0)


def test_what_is_empty_has_no_scale():
    assert unit_scaled(np.zeros((0, 2)), np)[1] == 0
    assert unit_scaled(np.zeros(2), np)[1] == 0


I2, I3 = np.eye(2), np.eye(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Kronecker(np.ones((2, 3)), I2), "left must have shape"),
        (lambda: Kronecker(I2, np.ones(2)), "right must have shape"),
        (lambda: KroneckerSum(np.ones(2), I2[None], I3[None]), "lefts must have"),
        (
            lambda: KroneckerSum(-np.ones(1), I2[None], I3[None], ((I2, I3),)),
            "coefficients >= 0",
        ),
        (lambda: KroneckerBasis(I2, I3, np.ones((3, 2))), "values must have shape"),
        (lambda: BlockDiagonal(()), "at least one operator"),
        (lambda: Kronecker(I2, I3).matvec(np.ones(5)), "vector must have shape"),
        (lambda: factored_tikhonov(Kronecker(I2, I3), 0.0), "damping must be > 0"),
        (
            lambda: damped_inverse(KroneckerBasis(I2, I3, np.ones((2, 3))), -1.0),
            "damping must be > 0",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_namespaces_do_not_mix():
    with pytest.raises(TypeError):
        Kronecker(I2, array_api_strict.asarray(I3))


A2 = np.asarray([[2.0, 1.0], [1.0, 3.0]]) / 3
TRUE2 = [(5 + 5**0.5) / 6, (5 - 5**0.5) / 6]


@pytest.mark.parametrize("exponent", [-1070, -548, -300, 0, 300, 1000])
def test_a_radius_holds_at_every_scale(exponent):
    """K2: where squares under- or overflow too; never 0 of an inexact number."""
    values, radius = certified_spectrum(np.ldexp(A2, exponent))
    exact, exact_radius = certified_spectrum(A2)
    tiny = np.finfo(float).smallest_normal
    assert 0 < radius <= np.ldexp(exact_radius, exponent) + tiny
    for x, true, at in zip(values, TRUE2, exact, strict=True):
        assert abs(x - np.ldexp(true, exponent)) <= radius + U * abs(x)
        assert abs(x - np.ldexp(at, exponent)) <= tiny


def test_only_the_zero_matrix_has_radius_zero():
    values, radius = certified_spectrum(np.zeros((2, 2)))
    assert values.tolist() == [0, 0]
    assert radius == 0


@pytest.mark.parametrize("exponent", [-600, -160, 160])
def test_operators_are_certified_at_every_scale(exponent):
    """K2, K3: factors whose products underflow give 0 with a radius that is not."""
    part = np.ldexp(A2, exponent)
    tiny = np.finfo(float).smallest_normal
    for operator in (
        Kronecker(part, part),
        KroneckerSum(np.ones(1), part[None], part[None]),
    ):
        values, radius = operator.certified_eigenvalues()
        exact = np.ldexp(TRUE2[0] ** 2, 2 * exponent)
        assert radius > 0
        assert abs(values[0] - exact) <= radius + 4 * U * exact + tiny
    with pytest.raises(ValueError, match="eigenvalues must be smaller"):
        Kronecker(np.ldexp(A2, 600), np.ldexp(A2, 600)).certified_eigenvalues()
