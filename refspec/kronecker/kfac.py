r"""Kronecker approximations of a layer's Fisher: KFAC, EKFAC and the class-aware CFAC.

A row of the layer Fisher is a gradient :math:`\sum_t \delta_t \otimes h_t` with a
weight, so the three kinds of Fisher differ in the weights of the errors only:

* ``exact``: :math:`s_i p_{i,c'}` over every label c' (the model Fisher);
* ``monte_carlo``: :math:`s_i m_{i,c'} / M`, m the counts of M labels drawn from p;
* ``empirical``: :math:`s_i` at the observed label, which is *not* the Fisher.

KFAC multiplies the mean of the features' second moments H with that of the errors'
:math:`\Delta`; CFAC does so class by class, :math:`\sum_c \pi_c \Delta_c \otimes H_c`;
EKFAC keeps KFAC's eigenvectors and takes the exact variances along them. Where T
positions share the weights, ``expand`` treats them as T independent samples and
``reduce`` as one sample with mean feature and summed error.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from refspec import backend
from refspec.backend import Array
from refspec.classes import Layer, Snapshot
from refspec.kronecker import moments
from refspec.kronecker.conventions import Placement, placement
from refspec.kronecker.eigenbasis import KroneckerBasis, eigenbasis
from refspec.kronecker.products import Kronecker, KroneckerSum

__all__ = ["ClassFactors", "cfac", "class_factors", "ekfac", "kfac", "kfac_error"]


@dataclass(frozen=True, slots=True, eq=False)
class ClassFactors:
    """Second moments of features and errors within every class: what CFAC is made of.

    Parameters
    ----------
    frequencies : Array, shape (C,)
        pi_c, non-negative; 0 for a class without samples, whose factors are zero.
    errors : Array, shape (C, b, b)
        Delta_c, uncentred, averaged over the samples of class c.
    features : Array, shape (C, a, a)
        H_c, likewise, without label weights.
    roots : tuple of pairs of Arrays, optional
        Square roots of the factors by class, as `KroneckerSum` takes them.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    TypeError
        If the arrays are of different namespaces.

    Notes
    -----
    Theory: theory/kronecker.md#K4.
    """

    frequencies: Array
    errors: Array
    features: Array
    roots: tuple[tuple[Array, Array], ...] | None = None

    def __post_init__(self) -> None:
        self.cfac()  # makes the checks

    def cfac(self) -> KroneckerSum:
        """Return sum_c pi_c Delta_c (x) H_c."""
        return KroneckerSum(self.frequencies, self.errors, self.features, self.roots)

    def kfac(self) -> Kronecker:
        """Return (sum_c pi_c Delta_c) (x) (sum_c pi_c H_c)."""
        xp = backend.namespace(self.frequencies)
        pi = self.frequencies[:, None, None]
        return Kronecker(
            xp.sum(pi * self.errors, axis=0), xp.sum(pi * self.features, axis=0)
        )


def kfac(
    snapshot: Snapshot,
    layer: str,
    *,
    fisher: str = "exact",
    setting: str = "expand",
    rng: np.random.Generator | None = None,
    samples: int = 1,
    convention: str = "refspec",
) -> Kronecker:
    r"""Return KFAC, errors (x) features, of one layer.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    layer : str
        Its name; features (N, T, a), bias column included, errors (N, C, T, b).
    fisher : {"exact", "monte_carlo", "empirical"}
        Which second moment of gradients is approximated.
    setting : {"expand", "reduce"}
        How positions that share the weights are treated; the same if T = 1.
    rng : numpy.random.Generator, optional
        Draws the labels of ``monte_carlo``.
    samples : int
        Labels drawn per sample by ``monte_carlo``.
    convention : str
        Whose placement of scalars, and whose treatment of positions, the factors
        follow; see `refspec.kronecker.conventions`.

    Returns
    -------
    Kronecker
        left :math:`\Delta` (b, b), right H (a, a).

    Raises
    ------
    ValueError
        If an option is unknown, or rng is missing.

    Notes
    -----
    Theory: theory/kronecker.md#K4, #K8, #K13, #K14. ``expand``: :math:`H = \sum_i s_i
    \frac1T\sum_t h_{it} h_{it}'`, :math:`\Delta = \sum_{i,c'} w_{ic'} \sum_t
    \delta_{ic't} \delta_{ic't}'`; ``reduce``: :math:`\bar h = \frac1T\sum_t h_t`,
    :math:`\bar\delta = \sum_t\delta_t` in their place. Error at most
    :math:`\gamma_{NCT+4}` of the absolute moments. Cost N T a^2 + R T b^2, R = N C rows
    (exact) or at most N M.

    References
    ----------
    Papyan (2020), Definition 7.1; Eschenhagen et al. (2023), section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import Layer, snapshot
    >>> errors = np.asarray([[[[-0.5, 0.5]], [[0.5, -0.5]]]] * 2)
    >>> layer = Layer("fc", np.eye(2)[:, None, :], errors)
    >>> s = snapshot([layer], np.asarray([0, 1]), logits=np.zeros((2, 2)))
    >>> kfac(s, "fc").left.tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    chosen, law = snapshot.layer(layer), _law(snapshot)
    N, T, _ = chosen.features.shape
    errors, weights = moments.labelled_errors(chosen, *law, fisher, rng, samples)
    columns = errors.shape[1] - (fisher == "exact")
    how = placement(convention, setting, fisher, N=N, T=T, columns=columns)
    return _factors(chosen.features, errors, weights, snapshot.sample_weights, how)


def ekfac(
    snapshot: Snapshot,
    layer: str,
    *,
    fisher: str = "exact",
    setting: str = "expand",
    rng: np.random.Generator | None = None,
    samples: int = 1,
) -> KroneckerBasis:
    r"""Return EKFAC: KFAC's eigenvectors with the Fisher's variances along them.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    layer : str
        Its name.
    fisher, setting, rng, samples
        As in `kfac`. The setting chooses the eigenvectors; the values always come from
        whole gradients, sums over positions. Monte-Carlo labels are drawn once, for
        both.

    Returns
    -------
    KroneckerBasis
        values :math:`S_{jk} = \sum_{i,c'} w_{ic'} (q_j' G_{ic'} r_k)^2`, with the
        gradient :math:`G = \sum_t \delta_t h_t'`.

    Raises
    ------
    ValueError
        If an option is unknown, or rng is missing.

    Notes
    -----
    Theory: theory/kronecker.md#K9. The closest operator to the Fisher, in Frobenius
    norm, among those diagonal in KFAC's eigenbasis; its trace is the Fisher's. Cost, on
    top of KFAC and two eigenproblems, R T (a^2 + b^2) + N a b for T = 1, R T a b for T
    > 1.

    References
    ----------
    George et al. (2018), section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import Layer, snapshot
    >>> errors = np.asarray([[[[-0.5, 0.5]], [[0.5, -0.5]]]] * 2)
    >>> layer = Layer("fc", np.eye(2)[:, None, :], errors)
    >>> s = snapshot([layer], np.asarray([0, 1]), logits=np.zeros((2, 2)))
    >>> round(ekfac(s, "fc").trace(), 12)
    0.5
    """
    chosen, law = snapshot.layer(layer), _law(snapshot)
    N, T, _ = chosen.features.shape
    errors, weights = moments.labelled_errors(chosen, *law, fisher, rng, samples)
    how = placement("refspec", setting, fisher, N=N, T=T, columns=1)
    h, s = chosen.features, snapshot.sample_weights
    basis = eigenbasis(_factors(h, errors, weights, s, how))
    Q, R = basis.left, basis.right
    return KroneckerBasis(Q, R, moments.variances(errors @ Q, h @ R, weights))


def cfac(
    snapshot: Snapshot,
    layer: str,
    *,
    fisher: str = "exact",
    setting: str = "expand",
    rng: np.random.Generator | None = None,
    samples: int = 1,
) -> KroneckerSum:
    r"""Return CFAC, the class-aware KFAC: independence only within a class.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes, of any sizes.
    layer : str
        Its name.
    fisher, setting, rng, samples
        As in `kfac`.

    Returns
    -------
    KroneckerSum
        :math:`\sum_c \pi_c \Delta_c \otimes H_c`, C terms.

    Notes
    -----
    Theory: theory/kronecker.md#K4, #K5, #K6. Exact where errors are constant within a
    class. Same operation count as KFAC, memory C (a^2 + b^2).

    References
    ----------
    Papyan (2020), Definition 7.2.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import Layer, snapshot
    >>> errors = np.asarray([[[[-0.5, 0.5]], [[0.5, -0.5]]]] * 2)
    >>> layer = Layer("fc", np.eye(2)[:, None, :], errors)
    >>> s = snapshot([layer], np.asarray([0, 1]), logits=np.zeros((2, 2)))
    >>> cfac(s, "fc").rights[1, :, :].tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """
    return class_factors(
        snapshot.layer(layer),
        *_law(snapshot),
        fisher=fisher,
        setting=setting,
        rng=rng,
        samples=samples,
    ).cfac()


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
    labels : array of int, shape (N,)
        Non-decreasing, in 0..C-1.
    probabilities : Array, shape (N, C)
        Softmax outputs.
    sample_weights : Array, shape (N,)
        Non-negative, sum 1.
    fisher, setting, rng, samples
        As in `kfac`.

    Returns
    -------
    ClassFactors
        Zero factors where no sample has positive weight. Roots, which make spectra
        cheaper, are kept where the samples are few.

    Raises
    ------
    ValueError
        If labels do not fit, an option is unknown, or rng is missing.

    Notes
    -----
    Theory: theory/kronecker.md#K4.

    Examples
    --------
    >>> import numpy as np
    >>> from refspec import Layer
    >>> layer = Layer("fc", np.ones((2, 1, 1)), np.ones((2, 3, 1, 1)))
    >>> p, s = np.full((2, 3), 1 / 3), np.full(2, 1 / 2)
    >>> class_factors(layer, np.asarray([0, 2]), p, s).frequencies.tolist()
    [0.5, 0.0, 0.5]
    """
    N, T, a = layer.features.shape
    C, b = layer.errors.shape[1], layer.errors.shape[3]
    if (
        labels.shape != (N,)
        or np.any(labels[1:] < labels[:-1])
        or not (N and labels[0] >= 0 and labels[-1] < C)
    ):
        raise ValueError(
            f"labels must be N = {N} >= 1 non-decreasing classes 0..{C - 1}, got shape "
            f"{labels.shape}; sort the samples by class"
        )
    errors, weights = moments.labelled_errors(
        layer, labels, probabilities, sample_weights, fisher, rng, samples
    )
    placement("refspec", setting, fisher, N=N, T=T, columns=1)  # checks the names
    xp = backend.namespace(sample_weights, errors)
    pi, lefts, rights, roots = [], [], [], []
    for lo, hi in itertools.pairwise(np.searchsorted(labels, np.arange(C + 1))):
        s = sample_weights[lo:hi]
        pi.append(backend.scalar(xp.sum(s)))
        scale = 1 / pi[-1] if pi[-1] > 0 else 0.0  # an absent class has zero factors
        E = moments.error_rows(errors[lo:hi, ...], weights[lo:hi, :] * scale, setting)
        H = moments.feature_rows(layer.features[lo:hi, ...], s * scale, setting)
        lefts.append(moments.second_moment(*E))
        rights.append(moments.second_moment(*H))
        roots.append((E, H))
    few = sum(moments.rank(*E) * moments.rank(*H) for E, H in roots) < a * b
    return ClassFactors(
        xp.asarray(pi, dtype=errors.dtype, device=backend.device(errors)),
        xp.stack(lefts),
        xp.stack(rights),
        tuple((moments.root(*E), moments.root(*H)) for E, H in roots) if few else None,
    )


def kfac_error(factors: ClassFactors) -> KroneckerSum:
    r"""Return CFAC - KFAC, the covariance between classes that KFAC drops.

    Parameters
    ----------
    factors : ClassFactors
        Of C classes, frequencies summing to 1.

    Returns
    -------
    KroneckerSum
        :math:`\sum_c \pi_c (\Delta_c - \Delta) \otimes (H_c - H)`; indefinite.

    Notes
    -----
    Theory: theory/kronecker.md#K5.

    Examples
    --------
    >>> import numpy as np
    >>> same = np.ones((2, 1, 1))
    >>> kfac_error(ClassFactors(np.full(2, 0.5), same, same)).trace()
    0.0
    """
    mean = factors.kfac()
    return KroneckerSum(
        factors.frequencies,
        factors.errors - mean.left[None, :, :],
        factors.features - mean.right[None, :, :],
    )


def _law(snapshot: Snapshot) -> tuple[np.ndarray, Array, Array]:
    return snapshot.labels, snapshot.probabilities, snapshot.sample_weights


def _factors(
    h: Array, errors: Array, weights: Array, s: Array, how: Placement
) -> Kronecker:
    left = moments.second_moment(*moments.error_rows(errors, weights, how.errors))
    right = moments.second_moment(*moments.feature_rows(h, s, how.features))
    return Kronecker(left * how.left, right * how.right)
