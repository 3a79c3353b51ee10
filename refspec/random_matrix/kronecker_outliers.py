r"""Outliers of gradients that are Kronecker products, and what KFAC takes them for.

Noise and means together have the deterministic equivalent :math:`H(\lambda) + \sum_c
\Delta_c' B_c \Delta_c \otimes h_c h_c'`, which falls with :math:`\lambda`: an outlier
is where one of its eigenvalues is :math:`\lambda`. To first order outliers move with
the cross-class means of the gradients, whose covariance is known; outliers closer than
that mix, as eigenvalues of one small matrix. Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from refspec import rounding
from refspec.random_matrix import kronecker_spectra
from refspec.random_matrix.kronecker_designs import KroneckerDesign
from refspec.random_matrix.kronecker_laws import Solution
from refspec.random_matrix.outliers import Outliers

__all__ = [
    "ACCURACY",
    "PAIRS",
    "STEP",
    "KroneckerOutliers",
    "kfac_eigenvalues",
    "kronecker_outliers",
]

#: Pairs of opposite noise drawn for the small matrix.
PAIRS = 512
#: Accuracy of an outlier, and step of its derivative, relative.
ACCURACY = 2.0**-20
STEP = 2.0**-12


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerOutliers:
    """Outliers one by one and all together.

    Parameters
    ----------
    each : Outliers
        Expected in order of size.
    total, total_deviation : float
        Their sum, which mixing leaves alone, and its standard deviation.
    centres : array, shape (r,)
        Where the deterministic equivalent places them, before mixing.
    """

    each: Outliers
    total: float
    total_deviation: float
    centres: np.ndarray


def kronecker_outliers(
    design: KroneckerDesign, edge: float, *, seed: int = 0
) -> KroneckerOutliers:
    """Predict the outliers of gradients.

    Parameters
    ----------
    design : KroneckerDesign
        The law, lengths not kept.
    edge : float
        Above it eigenvalues count as outliers; the right edge of the noise.
    seed : int
        Of the small matrix.

    Returns
    -------
    KroneckerOutliers

    Notes
    -----
    Theory: theory/kronecker_designs.md#G4. The expected sum is resolved to a few parts
    in a thousand; deviations are those of first order in the noise, too small near the
    edge. Cost some 10 solutions an outlier.

    Examples
    --------
    >>> from refspec.populations import KroneckerPopulation, Population
    >>> from refspec.random_matrix.kronecker_designs import kronecker_design
    >>> errors = Population((50,) * 2, 9, np.full((100, 2), 1 / 200), 1.0,
    ...                     class_means=4 * np.eye(2, 9))
    >>> features = Population((50,) * 2, 8, np.full((100, 1), 1 / 100), 1.0,
    ...                       class_means=4 * np.eye(2, 8))
    >>> design = kronecker_design(KroneckerPopulation(errors, features))
    >>> found = kronecker_outliers(design, 40.0)
    >>> [round(float(x)) for x in found.each.values], round(found.total)
    ([154, 141], 295)
    """
    errors, features = design.errors, design.features
    shape = errors.means.shape[2], features.means.shape[2]
    made = kronecker_spectra.at(design, edge)
    heights = np.linalg.eigvalsh(_full(made))[::-1]
    count = int(np.sum(heights > edge))
    centres: list[float] = []
    directions, forms, scales = [], [], []
    last = made.unknowns
    for k in range(count):

        def excess(x: float, k: int = k) -> float:
            nonlocal last
            found = kronecker_spectra.at(design, x, last)
            last = found.unknowns
            return x - float(np.linalg.eigvalsh(_full(found))[-1 - k])

        top = float(heights[k])
        root = scipy.optimize.brentq(excess, edge, top, xtol=ACCURACY * edge)
        if not centres or centres[-1] - root > 4 * ACCURACY * root:
            made = kronecker_spectra.at(design, root, last)
            vectors = np.linalg.eigh(_full(made))[1]  # one basis of equal outliers
        u = vectors[:, -1 - k]
        step = STEP * root
        up, down = (kronecker_spectra.at(design, root + s, last) for s in (step, -step))
        slope = float(u @ (_full(up) - _full(down)) @ u) / (2 * step)
        centres.append(root)
        directions.append(u.reshape(shape))
        forms.append(made.means.real)
        scales.append(1 / (1 - slope))
    if not count:
        nothing = np.zeros(0)
        return KroneckerOutliers(Outliers(nothing, nothing, nothing), 0.0, 0.0, nothing)
    U, length = np.stack(directions), np.sqrt(scales)
    noise = _small_noise(design, U * length[:, None, None], forms, seed)
    both = np.concatenate([np.diag(centres) + noise, np.diag(centres) - noise])
    drawn = np.linalg.eigvalsh(both)[:, ::-1]
    basis = _span(design)
    shares = np.sum((U.reshape(count, -1) @ basis) ** 2, axis=1)
    return KroneckerOutliers(
        Outliers(np.mean(drawn, axis=0), np.std(drawn, axis=0), shares * length**2),
        float(np.sum(centres)),
        float(np.std(np.trace(both, axis1=1, axis2=2))),
        np.asarray(centres),
    )


def kfac_eigenvalues(design: KroneckerDesign) -> np.ndarray:
    """Return the eigenvalues that KFAC's expected factors predict, descending.

    Parameters
    ----------
    design : KroneckerDesign
        The law.

    Returns
    -------
    array, shape (P,)
        Products of those of E h h' and of the weighted E delta delta'. Their sum is
        that of the expected matrix if the features of all classes weigh the same.

    Notes
    -----
    Theory: theory/kronecker_designs.md#G5. For C orthogonal means of equal length KFAC
    has C^2 equal eigenvalues where there are C, each too small by the factor C.

    Examples
    --------
    >>> from refspec.populations import KroneckerPopulation, Population
    >>> from refspec.random_matrix.kronecker_designs import kronecker_design
    >>> errors = Population((1, 1), 2, np.full((2, 2), 1 / 4), 0.0,
    ...                     class_means=np.eye(2))
    >>> features = Population((1, 1), 2, np.ones((2, 1)), 0.0, class_means=np.eye(2))
    >>> design = kronecker_design(KroneckerPopulation(errors, features))
    >>> kfac_eigenvalues(design).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    sides = []
    samples = design.samples
    mass, number = (
        samples.over(samples.weights),
        samples.over(np.ones(len(samples.counts))),
    )
    one = number[:, None] / np.sum(number)
    for side, shares in ((design.errors, mass), (design.features, one)):
        moment = sum(
            (m.T * w) @ m + np.sum(w) * S
            for m, S, w in zip(side.means, side.inside, shares, strict=True)
        )
        outside = sum(np.sum(w) * s for w, s in zip(shares, side.outside, strict=True))
        rest = np.full(side.rest, outside)
        sides.append(np.concatenate([np.linalg.eigvalsh(moment), rest]))
    return np.sort(np.outer(*sides), axis=None)[::-1]


def _full(made: Solution) -> np.ndarray:
    """Return noise and means in the frame."""
    return np.asarray((made.blocks[0] + made.signal).real)


def _span(design: KroneckerDesign) -> np.ndarray:
    """Return an orthonormal basis of the means delta_{c,c'} (x) h_c, weight > 0."""
    mass = design.samples.over(design.samples.weights)
    rows = [
        np.kron(delta, h[0])
        for means, h, weights in zip(
            design.errors.means, design.features.means, mass, strict=True
        )
        for delta, w in zip(means, weights, strict=True)
        if w > 0
    ]
    table = np.stack(rows)
    _, values, right = np.linalg.svd(table, full_matrices=False)
    bound = rounding.eigensolver_radius(max(table.shape), float(values[0]), 2.0**-53)
    return np.asarray(right[values > bound].T)


def _small_noise(
    design: KroneckerDesign, U: np.ndarray, forms: list[np.ndarray], seed: int
) -> np.ndarray:
    r"""Draw u_k' (G - E G) u_l to first order, shape (PAIRS, r, r).

    The sum over class c of the deviations of g_{c,k} is sqrt(n) (E_k h' + delta_k Y' +
    Z_k), with independent Gaussian E, Y, Z of covariances S_d, S_h and S_d (x) S_h.
    """
    rng = np.random.default_rng(seed)
    errors, features = design.errors, design.features
    K, rd = errors.means.shape[1:]
    rh = features.means.shape[2]
    out = np.zeros((PAIRS, len(U), len(U)))
    number = design.samples.over(np.ones(len(design.samples.counts)))
    for c, n in enumerate(number):
        delta, h = errors.means[c], features.means[c, 0]
        left, right = _root(errors.inside[c]), _root(features.inside[c])
        E = rng.standard_normal((PAIRS, K, rd)) @ left
        Y = rng.standard_normal((PAIRS, 1, rh)) @ right
        Z = left @ rng.standard_normal((PAIRS, K, rd, rh)) @ right
        deviations = E[..., None] * h + delta[:, :, None] * Y[..., None, :] + Z
        flat = deviations.reshape(PAIRS * K, -1) @ U.reshape(len(U), -1).T
        seen = flat.reshape(PAIRS, K, len(U))
        # B summed over n samples, times the mean of n deviations
        pull = np.stack([B[c] @ (delta @ u @ h) for B, u in zip(forms, U, strict=True)])
        once = (pull @ seen) / np.sqrt(n)
        out += once + np.swapaxes(once, 1, 2)
    return out


def _root(S: np.ndarray) -> np.ndarray:
    """Return the symmetric square root."""
    values, vectors = np.linalg.eigh(S)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
