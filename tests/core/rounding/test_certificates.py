"""Certified eigenvalues against enclosures by ball arithmetic at 200 bits."""

from __future__ import annotations

import flint
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from refspec.rounding import certificates, errorfree
from support.balls import BITS, enclosures, to_flint

EPS = 2.0**-52


def contained(found, true, values=None, shrink=1, shift=0):
    """For each eigenvalue, is it within its radius, as sharply as the reference says?

    The mutants: radii divided by `shrink`, values off by `shift` radii.
    """
    values = found.values if values is None else values
    with flint.ctx.workprec(BITS):
        return [
            abs(v + shift * r - t.mid()) <= r / shrink + t.rad()
            for v, r, t in zip(
                to_flint(values[None, :]).entries(),
                to_flint(found.radii[None, :]).entries(),
                true,
                strict=True,
            )
        ]


def symmetric(A):
    return np.tril(A) + np.tril(A, -1).T


def wishart(n, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, 2 * n))
    return symmetric(X @ X.T)


def from_spectrum(values, seed=0):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((len(values),) * 2))[0]
    return symmetric((Q * values) @ Q.T)


def class_structure(C, K):
    """C blocks of K equal samples: few integers, C - 1 and C (K - 1) equal values."""
    return np.kron(np.eye(C), 3 * np.ones((K, K))) + 1.0


CASES = {
    "wishart": lambda: wishart(50),
    "cluster": lambda: from_spectrum(np.r_[1 + 1e-14 * np.arange(8), np.arange(2, 30)]),
    "multiplicities": lambda: class_structure(5, 8),
    "every eigenvalue twice": lambda: scipy.linalg.block_diag(wishart(18), wishart(18)),
    "graded": lambda: from_spectrum(np.logspace(0, -12, 40)),
    "graded rows": lambda: wishart(40) * np.outer(*[2.0 ** -np.arange(40)] * 2),
    "near singular": lambda: scipy.linalg.hilbert(12),
    "low rank": lambda: symmetric(np.ones((30, 2)) @ np.ones((2, 30))),
    "indefinite": lambda: symmetric(np.random.default_rng(3).standard_normal((45, 45))),
    "two": lambda: np.array([[2.0, 1.0], [1.0, 2.0]]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_true_eigenvalue_is_within_its_radius(case):
    A = CASES[case]()
    found, true = certificates.certified_eigenvalues(A), enclosures(A)
    assert all(contained(found, true))
    assert np.all(np.diff(found.values) <= 0)
    norm = np.max(np.abs(found.values))
    assert np.max(found.radii) <= 20 * EPS * norm
    assert not any(contained(found, true, shift=3))
    if case != "two":
        assert not all(contained(found, true, shrink=100))


def hard(n):
    """A cluster, a graded part, eigenvalues below rounding, and the rest apart."""
    cluster, graded = 1 + 1e-14 * np.arange(8), np.logspace(-1, -8, 20)
    nothing = 1e-18 * np.arange(8)
    rest = np.linspace(2, 40, n - 36)
    return from_spectrum(np.concatenate([cluster, graded, nothing, rest]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "A",
    [hard(200), wishart(120), class_structure(8, 15)],
    ids=["hard", "wishart", "multiplicities"],
)
def test_every_true_eigenvalue_is_within_its_radius_up_to_200(A):
    found, true = certificates.certified_eigenvalues(A), enclosures(A)
    assert all(contained(found, true))
    assert not all(contained(found, true, shrink=100))
    assert np.max(found.radii) <= 20 * EPS * np.max(np.abs(found.values))


def test_known_multiplicities():
    """K equal rows in each of C classes: 3K + CK, 3K (C-1 times), 0 (C(K-1) times)."""
    C, K = 6, 7
    found = certificates.certified_eigenvalues(class_structure(C, K))
    true = np.r_[3 * K + C * K, np.full(C - 1, 3 * K), np.zeros(C * (K - 1))]
    assert np.all(np.abs(found.values - true) <= found.radii)
    assert not np.all(np.abs(found.values - true) <= found.radii / 100)


def test_refinement_reaches_the_last_bit_and_spares_clusters():
    """Separated: about one rounding. Doubled, the same values fall back to Q4."""
    A = wishart(40)
    one = certificates.certified_eigenvalues(A)
    two = certificates.certified_eigenvalues(scipy.linalg.block_diag(A, A))
    assert np.median(one.radii / one.values) < 2 * EPS
    assert len(set(two.radii)) == 1
    assert np.max(one.radii) < np.min(two.radii)
    # the unrefined values of LAPACK do not satisfy the refined radii
    plain = scipy.linalg.eigh(A, driver="evd")[0][::-1]
    assert not all(contained(one, enclosures(A), values=plain))


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.int64, st.tuples(*[st.shared(st.integers(1, 6))] * 2),
               elements=st.integers(-(2**20), 2**20)),
    st.integers(-1040, 960),
)  # fmt: skip
def test_integer_matrices_at_every_scale(entries, exponent):
    """Scaling by a power of two scales the certificate and nothing else."""
    A = symmetric(entries.astype(np.float64))
    base = certificates.certified_eigenvalues(A)
    found = certificates.certified_eigenvalues(np.ldexp(A, exponent))
    assert all(contained(base, enclosures(A))) if A.any() else not base.values.any()
    smallest = 2.0**-1074
    assert np.all(
        np.abs(found.values - np.ldexp(base.values, exponent)) <= 2 * smallest
    )
    assert np.all(
        np.abs(found.radii - np.ldexp(base.radii, exponent))
        <= 2 * smallest + EPS * found.radii
    )


@pytest.mark.parametrize("scale", [1e-320, 1e-150, 1e150, 1e300])
def test_extreme_scales(scale):
    A = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 5.0]]) * scale
    found = certificates.certified_eigenvalues(A)
    true = enclosures(A)
    assert all(contained(found, true))
    assert not any(contained(found, true, shift=3))


def test_mixed_scales_lose_only_what_underflows():
    A = np.diag([1e300, 1.0, 1e-300])
    found = certificates.certified_eigenvalues(A)
    assert np.all(np.abs(found.values - np.diag(A)) <= found.radii)
    assert found.radii[0] <= 4 * EPS * 1e300


@pytest.mark.parametrize("n", [2, 4])
def test_eigenvalue_that_overflows_is_refused(n):
    A = np.full((n, n), 1.7e308)
    with pytest.raises(ValueError, match=r"got max \|A\| = 1.7e\+308 .*scale A"):
        certificates.certified_eigenvalues(A)
    found = certificates.certified_eigenvalues(A / 2**10)
    assert abs(found.values[0] - n * (1.7e308 / 2**10)) <= found.radii[0]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_zero_and_tiny_matrices(n):
    found = certificates.certified_eigenvalues(np.zeros((n, n)))
    assert found.vectors.shape == (n, n)
    assert not found.values.any()
    assert not found.radii.any()


def test_one_by_one():
    found = certificates.certified_eigenvalues(np.array([[0.1]]))
    assert abs(found.values[0] - 0.1) <= found.radii[0] < 4 * EPS


def test_float32_and_read_only_input():
    A = wishart(5).astype(np.float32)
    A.flags.writeable = False
    before = A.copy()
    found = certificates.certified_eigenvalues(A)
    assert all(contained(found, enclosures(A.astype(np.float64))))
    assert np.all(before == A)


def test_given_vectors_of_any_quality():
    """Good ones give the same certificate; bad ones a larger radius, never a lie."""
    A, rng = wishart(20), np.random.default_rng(5)
    true, best = enclosures(A), certificates.certified_eigenvalues(A)
    again = certificates.certified_eigenvalues(A, vectors=best.vectors[:, ::-1])
    assert all(contained(again, true))
    assert np.max(again.radii) <= 20 * EPS * again.values[0]
    near = best.vectors + 1e-6 * rng.standard_normal(A.shape)
    far = np.linalg.qr(rng.standard_normal(A.shape))[0]
    radius = np.max(again.radii)
    for vectors in near, far:
        found = certificates.certified_eigenvalues(A, vectors=vectors)
        assert all(contained(found, true))
        assert radius < np.max(found.radii) < np.inf
        radius = np.max(found.radii)


def test_vectors_that_are_too_short_hide_nothing():
    """0.7 long, turned by the angle of 3, 4, 5: residuals shrink, errors do not."""
    turned = 0.7 * np.array([[0.8, -0.6], [0.6, 0.8]])
    found = certificates.certified_eigenvalues(np.diag([1.0, 0.0]), vectors=turned)
    assert np.all(np.abs(found.values - [1.0, 0.0]) <= found.radii)
    assert np.max(found.radii) < 1


@pytest.mark.parametrize("size", [0.0, 0.5, 1e-200, 1e200])
def test_useless_vectors_are_refused(size):
    with pytest.raises(ValueError, match="leave them out"):
        certificates.certified_eigenvalues(wishart(4), vectors=size * np.ones((4, 4)))


def test_symmetric_matrices_of_any_two_scales_are_enclosed():
    """Entries from subnormal to huge in one matrix, of sizes 0 to 3."""
    rng = np.random.default_rng(0)
    for k in range(300):
        n = k % 4
        top = rng.integers(-1074, 1020)
        bits = rng.integers(-40, 1, (n, n)) * (k % 3) * 25 + top
        A = symmetric(np.ldexp(rng.integers(-9, 10, (n, n)) / 16, bits))
        found = certificates.certified_eigenvalues(A)
        assert np.all(np.isfinite(found.radii))
        assert (
            all(contained(found, enclosures(A))) if A.any() else not found.radii.any()
        )


def test_no_convergence_is_certified_from_the_diagonal(monkeypatch):
    def fail(*_args, **_kwargs):
        raise np.linalg.LinAlgError

    A = np.diag([3.0, 1.0]) + 1e-9 * np.ones((2, 2))
    monkeypatch.setattr(scipy.linalg, "eigh", fail)
    found = certificates.certified_eigenvalues(A)
    monkeypatch.undo()
    assert all(contained(found, enclosures(A)))
    assert np.max(found.radii) < 1e-8


@pytest.mark.parametrize("squarings", [0, 1, 3, 5])
def test_spectral_norm_bound(squarings):
    """Between the norm and rank**(1 / 2**(squarings + 1)) times it."""
    rng = np.random.default_rng(squarings)
    dense = rng.standard_normal((12, 9))
    top = float(enclosures(symmetric(dense.T @ dense))[0].abs_upper().sqrt().upper())
    top *= errorfree.inflation(12 * 81)  # dense'dense was rounded
    cases = [
        (dense, top, 9),
        (np.ones((4, 9)), 6.0, 1),
        (1e-200 * np.eye(50), 1e-200, 50),
        (np.diag(2.0 ** -np.arange(300)), 1.0, 300),
    ]
    for M, norm, rank in cases:
        bound = certificates.spectral_norm_bound(M, squarings)
        single = 1 + 20 * M.size * 2.0**-24
        assert bound >= norm / errorfree.inflation(24 * 81)
        assert bound <= norm * rank ** (0.5 ** (squarings + 1)) * single


def test_spectral_norm_bound_of_special_matrices():
    assert certificates.spectral_norm_bound(np.zeros((3, 2))) == 0
    assert certificates.spectral_norm_bound(np.zeros((0, 2))) == 0
    assert certificates.spectral_norm_bound(np.array([[np.nan, 1.0]])) == np.inf
    assert certificates.spectral_norm_bound(np.array([[np.inf]])) == np.inf
    assert certificates.spectral_norm_bound(np.full((2, 2), 1.7e308)) == np.inf


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.ones((2, 3)), r"got \(2, 3\)"),
        (np.array([[1.0, 2.0], [2.5, 1.0]]), r"max \|A - A'\| = 0.5"),
        (np.full((2, 2), np.nan), "must be finite, got 4"),
        (np.ones((2, 2), int), "float64"),
    ],
)
def test_bad_matrices_are_rejected(A, message):
    with pytest.raises(ValueError, match=message):
        certificates.certified_eigenvalues(A)


def test_vectors_must_fit():
    with pytest.raises(ValueError, match=r"got \(3, 2\)"):
        certificates.certified_eigenvalues(np.eye(3), vectors=np.ones((3, 2)))


def test_certified_is_validated():
    with pytest.raises(ValueError, match="for 2 values"):
        certificates.Certified(np.ones(2), np.ones(1), np.eye(2))
    with pytest.raises(ValueError, match="radii >= 0"):
        certificates.Certified(np.ones(1), -np.ones(1), np.eye(1))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite radii"):
            certificates.Certified(np.ones(1), np.array([bad]), np.eye(1))
