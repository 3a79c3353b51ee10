r"""Outliers of gradients that are Kronecker products.

Noise and means together have the deterministic equivalent :math:`H(\lambda) + \sum_c
\Delta_c' B_c \Delta_c \otimes h_c h_c'`, which falls with :math:`\lambda`: an outlier
is where one of its eigenvalues is :math:`\lambda`. To first order outliers move with
the cross-class means of the gradients, whose covariance is known; outliers closer than
that mix, as eigenvalues of one small matrix (Theory: theory/kronecker_designs.md#G4).
Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from refspec.populations import square_root
from refspec.random_matrix.kronecker import spectrum
from refspec.random_matrix.kronecker.design import KroneckerDesign, mean_span
from refspec.random_matrix.kronecker.law import Equivalent
from refspec.random_matrix.outliers import Outliers, no_outliers, opposite

#: Pairs of opposite noise drawn for the small matrix.
PAIRS = 512
#: Accuracy of an outlier, and step of its derivative, relative.
ACCURACY = 2.0**-20
STEP = 2.0**-12


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerOutliers:
    """Outliers each in order of size, and their sum, which mixing leaves alone.

    centres (r,) is where the deterministic equivalent places them, before mixing.
    """

    each: Outliers
    total: float
    total_deviation: float
    centres: np.ndarray


def kronecker_outliers(
    design: KroneckerDesign, edge: float, seed: int = 0
) -> KroneckerOutliers:
    """Predict the outliers above `edge`, the noise's; lengths not kept in the design.

    Deviations are those of first order in the noise, too small near the edge. Costs
    some 10 solutions an outlier. Theory: theory/kronecker_designs.md#G4
    """
    shape = design.errors.means.shape[2], design.features.means.shape[2]
    made = spectrum.at(design, edge)
    heights = np.linalg.eigvalsh(_full(made))[::-1]
    count = int(np.sum(heights > edge))
    centres: list[float] = []
    directions, forms, scales = [], [], []
    last = made.unknowns
    for k in range(count):

        def excess(x: float, k: int = k) -> float:
            nonlocal last  # the solution next to this one is the best guess
            found = spectrum.at(design, x, last)
            last = found.unknowns
            return x - float(np.linalg.eigvalsh(_full(found))[-1 - k])

        # the equivalent falls with x: right of its value at the edge there is no root
        top = float(heights[k])
        root = scipy.optimize.brentq(excess, edge, top, xtol=ACCURACY * edge)
        if not centres or centres[-1] - root > 4 * ACCURACY * root:
            made = spectrum.at(design, root, last)
            vectors = np.linalg.eigh(_full(made))[1]  # one basis of equal outliers
        u = vectors[:, -1 - k]
        step = STEP * root
        up, down = (spectrum.at(design, root + s, last) for s in (step, -step))
        slope = float(u @ (_full(up) - _full(down)) @ u) / (2 * step)
        centres.append(root)
        directions.append(u.reshape(shape))
        forms.append(made.means.real)
        scales.append(1 / (1 - slope))
    if not count:
        return KroneckerOutliers(no_outliers(), 0.0, 0.0, np.zeros(0))
    U, length = np.stack(directions), np.sqrt(scales)
    noise = _small_noise(design, U * length[:, None, None], forms, seed)
    both = opposite(np.asarray(centres), noise)
    drawn = np.linalg.eigvalsh(both)[:, ::-1]
    shares = np.sum((U.reshape(count, -1) @ mean_span(design).T) ** 2, axis=1)
    return KroneckerOutliers(
        Outliers(np.mean(drawn, axis=0), np.std(drawn, axis=0), shares * length**2),
        float(np.sum(centres)),
        float(np.std(np.trace(both, axis1=1, axis2=2))),
        np.asarray(centres),
    )


def _full(made: Equivalent) -> np.ndarray:
    """Return noise and means in the frame."""
    return np.asarray((made.blocks[0] + made.signal).real)


def _small_noise(
    design: KroneckerDesign, U: np.ndarray, forms: list[np.ndarray], seed: int
) -> np.ndarray:
    """Draw u_k' (G - E G) u_l to first order, shape (PAIRS, r, r).

    Theory: theory/kronecker_designs.md#G4
    """
    rng = np.random.default_rng(seed)
    errors, features = design.errors, design.features
    K, b = errors.means.shape[1:]
    a = features.means.shape[2]
    out = np.zeros((PAIRS, len(U), len(U)))
    # the scales of a coupled sample are 1 on average, their product is not
    samples = design.samples
    both = samples.over(samples.features[:, None] * samples.errors)
    both /= samples.sizes[:, None]
    for c, n in enumerate(design.samples.sizes):
        delta, h = errors.means[c], features.means[c, 0]
        left, right = square_root(errors.inside[c]), square_root(features.inside[c])
        # deviations of g_ck summed over the class are sqrt(n) (E_k h' + delta_k Y' +
        # Z_k): errors' noise, the features' noise that all k share, and both
        E = rng.standard_normal((PAIRS, K, b)) @ left
        Y = rng.standard_normal((PAIRS, 1, a)) @ right
        Z = left @ rng.standard_normal((PAIRS, K, b, a)) @ right
        Z *= np.sqrt(both[c])[:, None, None]
        deviations = E[..., None] * h + delta[:, :, None] * Y[..., None, :] + Z
        flat = deviations.reshape(PAIRS * K, -1) @ U.reshape(len(U), -1).T
        seen = flat.reshape(PAIRS, K, len(U))
        # B summed over n samples, times the mean of n deviations
        pull = np.stack([B[c] @ (delta @ u @ h) for B, u in zip(forms, U, strict=True)])
        once = (pull @ seen) / np.sqrt(n)
        out += once + np.swapaxes(once, 1, 2)
    return out
