"""assert_spectrum passes right eigenvalues and names what can be seen in wrong ones."""

import numpy as np
import pytest
import scipy.sparse.linalg

from refspec import curvature, datasets, spectra
from refspec.testing import assert_spectrum
from support.operators import CASES, FISHER, KFAC, blocks, names_of

#: Reordering parameters does not change a spectrum.
UNSEEN = ("order",)


def values(A):
    return np.linalg.eigvalsh((A + A.T) / 2)[::-1]


@pytest.mark.parametrize("kind", CASES)
def test_right_spectra_pass(kind):
    case = CASES[kind]
    F, s = case.fisher(), case.snapshot
    whole = assert_spectrum(values(F), s)
    assert whole.distance <= whole.radius
    assert_spectrum(np.random.default_rng(0).permutation(values(F)), s)
    assert_spectrum(values(F)[:5].astype(np.float32), s)
    assert_spectrum(values(blocks(case.kfac())), s, of="kfac")
    exact = spectra.spectrum(curvature.fisher(s))
    assert_spectrum(exact.values, exact)
    assert_spectrum(values(F)[:3], exact)


@pytest.mark.parametrize("name", [x for x in FISHER if not x.startswith(UNSEEN)])
@pytest.mark.parametrize("kind", CASES)
def test_mistakes_in_the_fisher_are_named(kind, name):
    case = CASES[kind]
    with pytest.raises(AssertionError) as error:
        assert_spectrum(values(FISHER[name](case)), case.snapshot)
    assert name in names_of(error)


@pytest.mark.parametrize("name", ["factor N", "empirical Fisher", "missing centring"])
def test_mistakes_in_kfac_are_named(name):
    case = CASES["cnn"]
    with pytest.raises(AssertionError) as error:
        assert_spectrum(values(KFAC[name](case)), case.snapshot, of="kfac")
    assert name in names_of(error)


def test_singular_values_are_named():
    case = CASES["mlp"]
    found = np.sqrt(np.maximum(values(case.fisher()), 0))[:4]
    with pytest.raises(AssertionError, match="square roots") as error:
        assert_spectrum(found, case.snapshot)
    assert " of 4: found " in str(error.value)


def test_residuals_of_an_iterative_solver_widen_the_radius():
    case = CASES["mlp"]
    F = case.fisher()
    rng = np.random.default_rng(0)
    V = np.linalg.eigh(F)[1][:, :-4:-1] + 1e-4 * rng.standard_normal((len(F), 3))
    V /= np.linalg.norm(V, axis=0)
    found = np.sum(V * (F @ V), axis=0)
    left = np.linalg.norm(F @ V - V * found, axis=0)
    with pytest.raises(AssertionError):
        assert_spectrum(found, case.snapshot)
    assert_spectrum(found, case.snapshot, residuals=left)
    # one that did not converge is enough, wherever it is in the order
    exact, off = np.linalg.eigvalsh(F)[:-4:-1], np.array([0.0, float(left.max()), 0.0])
    assert_spectrum(exact + off, case.snapshot, residuals=off)
    with pytest.raises(ValueError, match=r"residuals must have shape .* r = 3, got"):
        assert_spectrum(found, case.snapshot, residuals=left[:2])
    arpack = scipy.sparse.linalg.eigsh(F, 3, return_eigenvectors=False)
    assert_spectrum(arpack, case.snapshot)


def test_wrong_arguments():
    case = CASES["mlp"]
    F = case.fisher()
    with pytest.raises(AssertionError, match="at most P"):
        assert_spectrum(np.append(values(F), 0), case.snapshot)
    with pytest.raises(ValueError, match="must be finite"):
        assert_spectrum(np.array([np.nan]), case.snapshot)
    with pytest.raises(ValueError, match="cannot tell"):
        assert_spectrum(values(F), case.snapshot, dtype="bfloat16")


def named(found, expected, **asked):
    with pytest.raises(AssertionError) as error:
        assert_spectrum(found, expected, **asked)
    return names_of(error), str(error.value)


def test_values_by_magnitude_are_named():
    """A matrix of both signs: the largest by magnitude, and those without signs."""
    rng = np.random.default_rng(0)
    every = np.sort(rng.standard_normal(30))[::-1]
    known = spectra.Spectrum(every, None, 2.0**-40, "a priori", 30)
    order = every[np.argsort(-np.abs(every))[:6]]
    assert named(order, known)[0] == ["largest by magnitude"]
    assert named(np.abs(order), known)[0] == ["signs lost"]


@pytest.mark.parametrize("seed", range(40))
def test_other_mistakes_of_a_solver_get_no_name(seed):
    """Values that are off at random, up and down, are none of these."""
    rng = np.random.default_rng(seed)
    every = np.sort(rng.random(40))[::-1]
    known = spectra.Spectrum(every, None, 2.0**-40, "a priori", 40)
    found = every[:6] * (1 + 0.01 * rng.choice([-1, 1], 6) * rng.uniform(0.5, 1, 6))
    found[0] = every[0] * 1.01
    names, text = named(found, known)
    assert not names, text
    assert "none of the usual" in text


def test_copies_of_one_value_are_ghosts():
    """Lanczos without reorthogonalisation, run for long: all it has is the largest."""
    rng = np.random.default_rng(0)
    every = np.sort(rng.standard_normal(30))[::-1]
    known = spectra.Spectrum(every, None, 2.0**-40, "a priori", 30)
    assert named(np.repeat(every[:1], 6), known)[0] == ["ghost"]
    assert named(np.repeat(every[:1] + 2.0**-20, 6), known)[0] != ["ghost"]


@pytest.mark.slow
def test_one_number_gets_no_name_by_accident():
    """Of a network stored in float32 some mistake's value is always near."""
    s = datasets.digits_mlp()
    top = spectra.spectrum(curvature.fisher(s, ["fc3"])).values[:1]
    assert named(400 * top, s, layer="fc3")[0] == ["factor N"]
    names, text = named(1.7 * top, s, layer="fc3")
    assert not names, text
    assert "nearest" not in text
