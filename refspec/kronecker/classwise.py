"""Second moments of features and errors class by class: what CFAC and KFAC are made of.

CFAC multiplies them within each class, KFAC their means; the difference is the
covariance between classes. Averages over batches keep what belongs to a class.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from refspec import backend, checks
from refspec.backend import Array
from refspec.classes import Layer
from refspec.kronecker import moments
from refspec.kronecker.conventions import expect_setting
from refspec.kronecker.products import Kronecker, KroneckerSum


@dataclass(frozen=True, slots=True, eq=False)
class ClassFactors:
    """Second moments of features and errors within every class: what CFAC is made of.

    Parameters
    ----------
    frequencies : Array, shape (C,)
        pi_c, non-negative; 0 for a class without samples, whose factors are zero.
    errors : Array, shape (C, b, b)
        Delta_c, uncentred, averaged over the samples of class c.
    features : Array, shape (C, a, a), H_c, likewise, without label weights
    roots : tuple of pairs of Arrays, optional
        Square roots of the factors by class, as `KroneckerSum` takes them.

    Raises
    ------
    ValueError, TypeError
        If a frequency is negative, or as in `KroneckerSum`.

    Notes
    -----
    Theory: theory/kronecker.md#K4.
    """

    frequencies: Array
    errors: Array
    features: Array
    roots: tuple[tuple[Array, Array], ...] | None = None

    def __post_init__(self) -> None:
        checks.expect_array("frequencies", self.frequencies, "(C,)", nonnegative=True)
        sizes = {"C": self.frequencies.shape[0]}
        for name, letter in (("errors", "b"), ("features", "a")):
            shape = f"(C, {letter}, {letter})"
            checks.expect_array(name, getattr(self, name), shape, sizes=sizes)
        self.cfac()  # makes the other checks

    def __repr__(self) -> str:
        """Say the sizes, not the entries."""
        (C, b, _), a = self.errors.shape, self.features.shape[1]
        return f"ClassFactors(C={C}, b={b}, a={a})"

    def cfac(self) -> KroneckerSum:
        """Return sum_c pi_c Delta_c (x) H_c."""
        return KroneckerSum(self.frequencies, self.errors, self.features, self.roots)

    def kfac(self) -> Kronecker:
        """Return (sum_c pi_c Delta_c) (x) (sum_c pi_c H_c)."""
        xp = backend.namespace(self.frequencies)
        pi = self.frequencies[:, None, None]
        means = (xp.sum(pi * x, axis=0) for x in (self.errors, self.features))
        return Kronecker(*(moments.symmetric(x, xp) for x in means))


def class_factors(
    layer: Layer,
    labels: np.ndarray,
    probabilities: Array,
    sample_weights: Array,
    *,
    fisher: str = "exact",
    setting: str = "expand",
    rng: np.random.Generator | None = None,
    samples: int = 1,
) -> ClassFactors:
    """Return the factors of every class; classes may be absent, as in a batch.

    Parameters
    ----------
    layer : Layer
        Features (N, T, a) and errors (N, C, T, b), sorted by class.
    labels : array of int, shape (N,), non-decreasing, in 0..C-1
    probabilities : Array, shape (N, C), softmax outputs
    sample_weights : Array, shape (N,), non-negative, sum 1
    fisher, setting, rng, samples
        As in `kfac`.

    Returns
    -------
    ClassFactors
        Zero factors where no sample has positive weight. Roots, which make spectra
        cheaper, are kept where the samples are few.

    Raises
    ------
    ValueError, TypeError
        If labels, probabilities or weights do not fit, or as `kfac`.

    Notes
    -----
    Theory: theory/kronecker.md#K4.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import Layer
    >>> layer = Layer("fc", np.ones((2, 1, 1)), np.ones((2, 3, 1, 1)))
    >>> p, s = np.full((2, 3), 1 / 3), np.full(2, 1 / 2)
    >>> class_factors(layer, [0, 2], p, s).frequencies.tolist()
    [0.5, 0.0, 0.5]
    """
    checks.expect_type("layer", layer, Layer, "make one with refspec.Layer")
    N, C, _, b = layer.errors.shape
    labels, offsets = checks.sorted_labels(labels, N, C)
    given = {"probabilities": probabilities, "sample_weights": sample_weights}
    for name, shape in (("probabilities", "(N, C)"), ("sample_weights", "(N,)")):
        sizes = {"N": N, "C": C}
        checks.expect_array(name, given[name], shape, sizes=sizes, nonnegative=True)
    xp = checks.expect_alike(errors=layer.errors, **given)
    checks.expect_sum_one("rows of probabilities", probabilities, 1)
    checks.expect_sum_one("sample_weights", sample_weights, 0)
    expect_setting(setting)
    errors, weights = moments.labelled_errors(
        layer, (labels, probabilities, sample_weights), fisher, rng, samples, xp
    )
    pi, lefts, rights, roots = [], [], [], []
    for lo, hi in itertools.pairwise(offsets):
        s = sample_weights[lo:hi]
        pi.append(backend.scalar(xp.sum(s)))
        total = pi[-1] if pi[-1] > 0 else 1.0  # an absent class has zero factors
        E = moments.error_rows(
            errors[lo:hi, ...], weights[lo:hi, :] / total, setting, xp
        )
        H = moments.feature_rows(layer.features[lo:hi, ...], s / total, setting, xp)
        lefts.append(moments.second_moment(*E, xp))
        rights.append(moments.second_moment(*H, xp))
        roots.append((E, H))
    sides = [moments.root_rows(*E) * moments.root_rows(*H) for E, H in roots]
    root, kept = moments.square_root, None
    if sum(sides) < b * layer.features.shape[2]:
        kept = tuple((root(*E, xp), root(*H, xp)) for E, H in roots)
    frequencies = xp.asarray(pi, dtype=errors.dtype, device=backend.device(errors))
    return ClassFactors(frequencies, xp.stack(lefts), xp.stack(rights), kept)


def kfac_error(factors: ClassFactors) -> KroneckerSum:
    """Return CFAC - KFAC, the covariance between classes that KFAC drops; indefinite.

    Theory: theory/kronecker.md#K5.
    """
    mean = factors.kfac()
    return KroneckerSum(
        factors.frequencies,
        factors.errors - mean.left[None, :, :],
        factors.features - mean.right[None, :, :],
    )


def running_average(
    old: ClassFactors, batch: ClassFactors, decay: float
) -> ClassFactors:
    """Average over batches, decay in [0, 1) of the old; an absent class keeps its own.

    Theory: theory/preconditioners.md#K11.
    """
    decay = checks.expect_probability("decay", decay)
    shapes = [
        [tuple(getattr(x, k).shape) for k in ("errors", "features")]
        for x in (old, batch)
    ]
    if decay == 1 or shapes[0] != shapes[1]:
        raise ValueError(
            f"decay must lie in [0, 1) and batch have the shapes of old, {shapes[0]}, "
            f"got {decay} and {shapes[1]}; it is the share of the old average"
        )
    xp = backend.namespace(old.frequencies, batch.frequencies)
    kept, added = decay * old.frequencies, (1 - decay) * batch.frequencies
    pi = kept + added
    seen, safe = pi > 0, xp.where(pi > 0, pi, xp.ones_like(pi))
    # each share by its own quotient: 1 - share would lose a small one, and with it a
    # past whose moments are large
    past = xp.where(seen, kept / safe, xp.ones_like(pi))[:, None, None]
    new = xp.where(seen, added / safe, xp.zeros_like(pi))[:, None, None]
    return ClassFactors(
        pi,
        past * old.errors + new * batch.errors,
        past * old.features + new * batch.features,
    )
