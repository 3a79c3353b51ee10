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

import numpy as np

from refspec import backend, checks
from refspec.backend import Array, Namespace
from refspec.classes import Snapshot
from refspec.kronecker import moments
from refspec.kronecker.classwise import class_factors
from refspec.kronecker.conventions import Placement, expect_setting, placement
from refspec.kronecker.eigenbasis import KroneckerBasis, diagonalised
from refspec.kronecker.products import Kronecker, KroneckerSum


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
    layer : str
        Its name; features (N, T, a), bias column included, errors (N, C, T, b).
    fisher : {"exact", "monte_carlo", "empirical"}
        Which second moment of gradients is approximated.
    setting : {"expand", "reduce"}
        How positions that share the weights are treated; the same if T = 1.
    rng : numpy.random.Generator, optional, draws the labels of ``monte_carlo``
    samples : int, labels drawn per sample by ``monte_carlo``
    convention : str
        Whose placement of scalars, and whose treatment of positions, the factors
        follow; see `refspec.kronecker.conventions`.

    Returns
    -------
    Kronecker
        left :math:`\Delta` (b, b), right H (a, a).

    Raises
    ------
    ValueError, TypeError
        If the layer or an option is unknown, rng is missing, or a factor overflows.

    Notes
    -----
    Theory: theory/kronecker.md#K4, #K8; theory/kronecker_spectra.md#K13. ``expand``:
    :math:`H = \sum_i s_i \frac1T\sum_t h_{it} h_{it}'`,
    :math:`\Delta = \sum_{i,c'} w_{ic'} \sum_t \delta_{ic't} \delta_{ic't}'`;
    ``reduce``: :math:`\bar h = \frac1T\sum_t h_t`, :math:`\bar\delta = \sum_t\delta_t`
    in their place. Error at most :math:`\gamma_{NCT+4}` of the absolute moments.
    Cost N T a^2 + R T b^2, R = N C rows (exact) or at most N M.

    References
    ----------
    Papyan (2020), Definition 7.1; Eschenhagen et al. (2023), section 3.

    Examples
    --------
    >>> import refspec
    >>> kfac(refspec.datasets.digits_mlp(), "fc3").left.shape
    (10, 10)
    """
    given, chosen = _weighting(snapshot), snapshot.layer(layer)
    xp, (N, T, _) = backend.namespace(chosen.features), chosen.features.shape
    errors, weights = moments.labelled_errors(chosen, given, fisher, rng, samples, xp)
    columns = errors.shape[1] - (fisher == "exact")
    how = placement(convention, setting, fisher, N=N, T=T, columns=columns)
    return _factors(chosen.features, errors, weights, snapshot.sample_weights, how, xp)


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
    snapshot, layer, fisher, setting, rng, samples
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
    ValueError, TypeError
        As `kfac`.

    Notes
    -----
    Theory: theory/kronecker.md#K9. George et al. (2018), section 3. The closest
    operator to the Fisher, in Frobenius norm, among those diagonal in KFAC's
    eigenbasis; its trace is the Fisher's. Cost, on top of KFAC and two eigenproblems,
    R T (a^2 + b^2) + N a b for T = 1, R T a b for T > 1.

    Examples
    --------
    >>> import refspec
    >>> ekfac(refspec.datasets.digits_mlp(), "fc3").values.shape
    (10, 17)
    """
    given, chosen = _weighting(snapshot), snapshot.layer(layer)
    expect_setting(setting)
    h, s, xp = chosen.features, snapshot.sample_weights, backend.namespace(given[1])
    errors, weights = moments.labelled_errors(chosen, given, fisher, rng, samples, xp)
    how = Placement(setting, setting)
    basis = diagonalised(_factors(h, errors, weights, s, how, xp))
    Q, R = basis.left, basis.right
    return KroneckerBasis(Q, R, moments.variances(errors @ Q, h @ R, weights, xp))


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
    snapshot, layer, fisher, setting, rng, samples
        As in `kfac`.

    Returns
    -------
    KroneckerSum
        :math:`\sum_c \pi_c \Delta_c \otimes H_c`, C terms.

    Raises
    ------
    ValueError, TypeError
        As `kfac`.

    Notes
    -----
    Theory: theory/kronecker.md#K4, #K5, #K6; theory/kronecker_spectra.md#K13, #K14;
    theory/kronecker_nearest.md#K18. Papyan (2020), Definition 7.2.
    Exact where errors are constant within a class. Same operation count as KFAC, memory
    C (a^2 + b^2).

    Examples
    --------
    >>> import refspec
    >>> cfac(refspec.datasets.digits_mlp(), "fc3").rights.shape
    (10, 17, 17)
    """
    given = _weighting(snapshot)
    return class_factors(
        snapshot.layer(layer),
        *given,
        fisher=fisher,
        setting=setting,
        rng=rng,
        samples=samples,
    ).cfac()


def _weighting(snapshot: Snapshot) -> moments.Weighting:
    """Return labels, probabilities and weights of a snapshot, once it is one."""
    checks.expect_type(
        "snapshot", snapshot, Snapshot, "make one with refspec.snapshot(...)"
    )
    return snapshot.labels, snapshot.probabilities, snapshot.sample_weights


def _factors(
    h: Array, errors: Array, weights: Array, s: Array, how: Placement, xp: Namespace
) -> Kronecker:
    """Return KFAC of features h (N, T, a) and errors (N, K, T, b) in a placement."""
    E = moments.error_rows(errors, weights, how.errors, xp)
    H = moments.feature_rows(h, s, how.features, xp)
    left, right = moments.second_moment(*E, xp), moments.second_moment(*H, xp)
    return Kronecker(left * how.left, right * how.right)
