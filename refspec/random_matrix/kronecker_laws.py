r"""The limiting law of gradients that are Kronecker products, features shared.

The deviations of a sample's gradients from their means are correlated between cross
classes,

.. math:: Cov(g_{ick}, g_{ick'}) = \delta_{ck} \delta_{ck'}' \otimes S^h_c
          + [k = k']\, S^d_c \otimes (S^h_c + h_c h_c')

and the resolvent of the noise has one K x K matrix of unknowns a class,

.. math:: B_c = \sum_{i \in c} (W_i^{-1} + A_c)^{-1}, \quad
          H = \sum_c \Delta_c' B_c \Delta_c \otimes S^h_c
          + tr(B_c)\, S^d_c \otimes (S^h_c + h_c h_c')

with :math:`A_c` the expectation of the deviations' :math:`g_{ick}' Q g_{ick'}` and
:math:`Q = (H - z)^{-1}`. The means add :math:`\sum_c \Delta_c' B_c \Delta_c \otimes h_c
h_c'`, of rank at most CK. Host arithmetic (LAPACK).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import rounding
from refspec.random_matrix.kronecker_designs import KroneckerDesign, Samples

__all__ = ["STEP", "Solution", "expected", "reach", "solve"]

#: Change of the unknowns, relative, at which the fixed point is taken as found.
STEP = 2.0**-26
_ITERATIONS = 2000
_MEMORY = 8


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The fixed point at one z.

    Parameters
    ----------
    z : complex
        In the upper half plane.
    unknowns : array, shape (C (K^2 + 2),)
        What the fixed point is of: Delta_c tr_h[(I (x) S_h) Q] Delta_c', and the traces
        of S_d (x) S_h and of S_d (x) h h' with Q.
    A, B : array, shape (m, K, K)
        Of each kind of samples: A, and (W^{-1} + A)^{-1}.
    means : array, shape (C, K, K)
        B summed over the samples.
    blocks : tuple of four arrays
        H in frame (x) frame, in the frame of the errors, in that of the features, and
        outside of both.
    resolvents : tuple of four arrays
        (H - z)^{-1} of each.
    signal : array, shape (r, r)
        What the means add to the first block.
    """

    z: complex
    unknowns: np.ndarray
    A: np.ndarray
    B: np.ndarray
    means: np.ndarray
    blocks: tuple[np.ndarray, ...]
    resolvents: tuple[np.ndarray, ...]
    signal: np.ndarray


def expected(design: KroneckerDesign) -> Solution:
    """Return the expectation of the second moment, the limit of many samples: A = 0.

    Parameters
    ----------
    design : KroneckerDesign
        The law.

    Returns
    -------
    Solution
        Its blocks, with `signal` added to the first, are those of E M.

    Notes
    -----
    Theory: theory/kronecker_designs.md#G1.

    Examples
    --------
    >>> from refspec.populations import KroneckerPopulation, Population
    >>> from refspec.random_matrix.kronecker_designs import kronecker_design
    >>> side = Population((9,), 2, np.ones((9, 1)), 1.0)
    >>> made = expected(kronecker_design(KroneckerPopulation(side, side)))
    >>> made.blocks[3].real.tolist()
    [[9.0]]
    """
    C, K = design.errors.means.shape[:2]
    return _step(design, np.zeros(C * (K * K + 2)), -1.0)[1]


def reach(design: KroneckerDesign) -> float:
    """Return a point right of the support of the noise.

    Parameters
    ----------
    design : KroneckerDesign
        The law.

    Returns
    -------
    float

    Notes
    -----
    Theory: theory/kronecker_designs.md#G2. One Wishart matrix ends at t (N^1/2 +
    P^1/2)^2 <= 2 t (N + P); this is 2.5 t (N + P).

    Examples
    --------
    >>> from refspec.populations import KroneckerPopulation, Population
    >>> from refspec.random_matrix.kronecker_designs import kronecker_design
    >>> errors = Population((9,), 2, np.ones((9, 1)), 1.0)
    >>> features = Population((9,), 2, np.ones((9, 1)), 1.0)
    >>> round(reach(kronecker_design(KroneckerPopulation(errors, features))), 6)
    32.5
    """
    C, K = design.errors.means.shape[:2]
    nothing = np.zeros(C * (K * K + 2))
    made = expected(design)
    norm = max(float(np.linalg.norm(H, 2)) for H in made.blocks if len(H))
    far = norm * 2.0**40
    far_away = _step(design, nothing, -far)[0]
    A = _effective(design.samples, *_unpacked(far * far_away, C, K))[0]
    rows = np.max(design.samples.weights[:, :, None] * np.abs(A))
    return float(2.5 * (norm + K * rows))


def solve(
    design: KroneckerDesign, z: complex, guess: np.ndarray | None = None
) -> Solution:
    """Find the fixed point at z.

    Parameters
    ----------
    design : KroneckerDesign
        The law.
    z : complex
        In the upper half plane.
    guess : array, shape (C (K^2 + 2),), optional
        Of the unknowns.

    Returns
    -------
    Solution

    Raises
    ------
    RuntimeError
        If the iteration fails, which the theory excludes.

    Notes
    -----
    Theory: theory/kronecker_designs.md#G2. The map takes forms of positive imaginary
    part to such, where its fixed point is unique, so Anderson's extrapolation is free
    to jump as long as it stays there. Cost of a step O(r^3 + C r^2 + C m K^3), r the
    product of the frames' ranks.

    Examples
    --------
    >>> from refspec.populations import KroneckerPopulation, Population
    >>> from refspec.random_matrix.kronecker_designs import kronecker_design
    >>> errors = Population((9,), 2, np.ones((9, 1)), 1.0)
    >>> features = Population((9,), 2, np.ones((9, 1)), 1.0)
    >>> design = kronecker_design(KroneckerPopulation(errors, features))
    >>> made = solve(design, 4 + 1e-3j)  # one Wishart of 9 in dimension 4: -v = H - z
    >>> v = made.z - made.blocks[3][0, 0]
    >>> bool(abs(v + 9 * v / (v - 4) - made.z) < 1e-6)
    True
    """
    C, K = design.errors.means.shape[:2]
    x = np.zeros(C * (K * K + 2), dtype=np.complex128) if guess is None else guess
    tried: list[np.ndarray] = []
    mapped: list[np.ndarray] = []
    for _ in range(_ITERATIONS):
        new, made = _step(design, x, z)
        change = float(np.max(np.abs(new - x)))
        if change <= STEP * float(np.max(np.abs(new))):
            return made
        tried = [*tried[1 - _MEMORY :], x]
        mapped = [*mapped[1 - _MEMORY :], new]
        x = _extrapolated(tried, mapped)
        if not _in_half_plane(x, C, K):
            x = new
    raise RuntimeError(
        f"expected the fixed point at z = {z} within {_ITERATIONS} steps, got a change "
        f"of {change:.3g}; report the population as a bug"
    )


def _extrapolated(tried: list[np.ndarray], mapped: list[np.ndarray]) -> np.ndarray:
    """Combine the past steps to the smallest residual."""
    f = np.stack(mapped)
    if len(f) == 1:
        return np.asarray(f[0])
    residuals = f - np.stack(tried)
    shares = np.linalg.lstsq(np.diff(residuals, axis=0).T, residuals[-1], rcond=None)[0]
    return np.asarray(f[-1] - shares @ np.diff(f, axis=0))


def _unpacked(x: np.ndarray, C: int, K: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the forms of the means (C, K, K) and both traces (2, C)."""
    forms = x[: C * K * K].reshape(C, K, K)
    return (forms + forms.swapaxes(1, 2)) / 2, x[C * K * K :].reshape(2, C)


def _in_half_plane(x: np.ndarray, C: int, K: int) -> bool:
    """Tell whether all forms have an imaginary part >= 0, within rounding."""
    forms, traces = _unpacked(x, C, K)
    if not np.all(np.isfinite(x)) or np.any(traces.imag < 0):
        return False
    norm = float(np.max(np.abs(forms)))
    lowest = float(np.min(np.linalg.eigvalsh(forms.imag)))
    return lowest >= -rounding.eigensolver_radius(K, norm, 2.0**-53)


def _step(
    design: KroneckerDesign, x: np.ndarray, z: complex
) -> tuple[np.ndarray, Solution]:
    """Map the unknowns to the expected forms of the resolvent that they make."""
    errors, features = design.errors, design.features
    C, K, rd = errors.means.shape
    rh = features.means.shape[2]
    samples = design.samples
    A, B = _effective(samples, *_unpacked(x, C, K))
    s, t = samples.features, samples.errors
    traces = np.sum(t * np.diagonal(B, axis1=1, axis2=2), axis=1)
    plain, scaled = samples.over(B), samples.over(s[:, None, None] * B)
    by_mean, by_noise = (samples.over(x)[:, None, None] for x in (traces, s * traces))
    mean = features.means[:, 0]
    square = mean[:, :, None] * mean[:, None, :]
    frames = errors.means.swapaxes(1, 2)

    def products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return sum_c x_c (x) y_c."""
        made = (x.reshape(C, -1).T @ y.reshape(C, -1)).reshape(rd, rd, rh, rh)
        return np.asarray(made.swapaxes(1, 2).reshape(rd * rh, rd * rh))

    spread = frames @ scaled @ errors.means + by_noise * errors.inside
    loose = by_mean * errors.inside
    outside = [t[:, 0, 0] * errors.outside for t in (by_noise, by_mean)]
    blocks = (
        products(spread, features.inside) + products(loose, square),
        np.tensordot(features.outside, spread, 1),
        np.tensordot(outside[0], features.inside, 1)
        + np.tensordot(outside[1], square, 1),
        np.reshape(outside[0] @ features.outside, (1, 1)),
    )
    Q = tuple(np.linalg.inv(H - z * np.eye(len(H))) for H in blocks)
    pairs = Q[0].reshape(rd, rh, rd, rh).swapaxes(1, 2).reshape(rd * rd, rh * rh)
    traced = pairs @ np.concatenate([features.inside, square]).reshape(2 * C, -1).T
    over_noise, over_mean = traced.T.reshape(2, C, rd, rd)
    over_noise = over_noise + features.rest * features.outside[:, None, None] * Q[1]
    forms = errors.means @ over_noise @ frames
    noise = np.sum(errors.inside * over_noise, axis=(1, 2))
    noise += errors.rest * errors.outside * np.sum(features.inside * Q[2], axis=(1, 2))
    noise += design.multiplicities[3] * errors.outside * features.outside * Q[3][0, 0]
    mixed = np.sum(errors.inside * over_mean, axis=(1, 2))
    mixed += errors.rest * errors.outside * np.sum(square * Q[2], axis=(1, 2))
    if not design.shared:
        forms = forms * np.eye(K)
    new = np.concatenate([forms.ravel(), noise, mixed])
    signal = products(frames @ plain @ errors.means, square)
    return new, Solution(z, new, A, B, plain, blocks, Q, signal)


def _effective(
    samples: Samples, forms: np.ndarray, traces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return A = s form + diag(t (s noise + mixed)) and (W^{-1} + A)^{-1} of each kind.

    Weights of 0 included.
    """
    s, t, at = samples.features, samples.errors, samples.labels
    eye = np.eye(forms.shape[1])
    noise, mixed = traces[:, at]
    A = (
        s[:, None, None] * forms[at]
        + (t * (s * noise + mixed)[:, None])[..., None] * eye
    )
    half = np.sqrt(samples.weights)
    scale = half[:, :, None] * half[:, None, :]
    return A, scale * np.linalg.inv(eye + scale * A)
