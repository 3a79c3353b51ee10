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
h_c'`, of rank at most CK (Theory: theory/kronecker_designs.md#G2). Host arithmetic
(LAPACK).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refspec import rounding
from refspec.random_matrix import anderson
from refspec.random_matrix.kronecker.design import KroneckerDesign, Samples

#: Change of the unknowns, relative, at which the fixed point is taken as found.
STEP = 2.0**-26
_ITERATIONS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Equivalent:
    """The deterministic equivalent at one z of the upper half plane.

    unknowns (C (K^2 + 2),): Delta_c tr_h[(I (x) S_h) Q] Delta_c', and the traces of
    S_d (x) S_h and of S_d (x) h h' with Q. A, B (m, K, K): A and (W^{-1} + A)^{-1} of
    each kind of samples. means (C, K, K): B summed over the samples. blocks: H in
    frame (x) frame, in the frame of the errors, in that of the features, outside of
    both; resolvents: (H - z)^{-1} of each. signal: what means add to the first block.
    """

    z: complex
    unknowns: np.ndarray
    A: np.ndarray
    B: np.ndarray
    means: np.ndarray
    blocks: tuple[np.ndarray, ...]
    resolvents: tuple[np.ndarray, ...]
    signal: np.ndarray


def expectation(design: KroneckerDesign) -> Equivalent:
    """Return the limit of many samples, A = 0: blocks and signal are those of E M.

    Theory: theory/kronecker_designs.md#G1
    """
    return _step(design, _nothing(design), -1.0)[1]


def reach(design: KroneckerDesign) -> float:
    """Return a point right of the support of the noise.

    One Wishart matrix ends at t (N^1/2 + P^1/2)^2 <= 2 t (N + P); 2 is taken as 2.5.
    Theory: theory/kronecker_designs.md#G2
    """
    C, K = design.errors.means.shape[:2]
    norm = max(
        float(np.linalg.norm(H, 2)) for H in expectation(design).blocks if len(H)
    )
    # far away Q = -1 / z, so that the unknowns times z are traces without a resolvent
    far = norm * 2.0**40
    far_away = _step(design, _nothing(design), -far)[0]
    A = _effective(design.samples, *_unpacked(far * far_away, C, K))[0]
    weights = np.sum(design.samples.roots**2, axis=2)  # a matrix's diagonal
    rows = np.max(weights[:, :, None] * np.abs(A))
    return float(2.5 * (norm + K * rows))


def equivalent(
    design: KroneckerDesign, z: complex, guess: np.ndarray | None = None
) -> Equivalent:
    """Find the fixed point at z, Im z > 0, from a guess of the unknowns.

    A step costs O(r^3 + C r^2 + C m K^3), r the product of the frames' ranks.
    Theory: theory/kronecker_designs.md#G2
    """
    # The map takes forms of positive imaginary part to such, where its fixed point is
    # unique, so Anderson's extrapolation is free to jump as long as it stays there.
    C, K = design.errors.means.shape[:2]
    x = _nothing(design) + 0j if guess is None else guess
    steps = anderson.Steps()
    for _ in range(_ITERATIONS):
        new, made = _step(design, x, z)
        change = float(np.max(np.abs(new - x)))
        if change <= STEP * float(np.max(np.abs(new))):
            return made
        x = steps.extrapolated(x, new)
        if not _in_half_plane(x, C, K):
            x = new
    raise RuntimeError(
        f"expected the fixed point at z = {z} within {_ITERATIONS} steps, got a change "
        f"of {change:.3g}; report the population as a bug"
    )


def _nothing(design: KroneckerDesign) -> np.ndarray:
    """Return unknowns of 0."""
    C, K = design.errors.means.shape[:2]
    return np.zeros(C * (K * K + 2))


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
) -> tuple[np.ndarray, Equivalent]:
    """Map the unknowns to the expected forms of the resolvent that they make."""
    C, K = design.errors.means.shape[:2]
    A, B = _effective(design.samples, *_unpacked(x, C, K))
    means = design.samples.over(B)
    blocks, signal = _blocks(design, B, means)
    Q = tuple(np.linalg.inv(H - z * np.eye(len(H))) for H in blocks)
    new = _expected_forms(design, Q)
    return new, Equivalent(z, new, A, B, means, blocks, Q, signal)


def _effective(
    samples: Samples, forms: np.ndarray, traces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return A = s form + diag(t (s noise + mixed)) and (W^{-1} + A)^{-1} of each kind.

    s and t are the squared lengths of the features' and the errors' noise.
    """
    s, t, at = samples.features, samples.errors, samples.labels
    eye = np.eye(forms.shape[1])
    noise, mixed = traces[:, at]
    diagonal = t * (s * noise + mixed)[:, None]
    A = s[:, None, None] * forms[at] + diagonal[..., None] * eye
    # (W^-1 + A)^-1 = R (I + R' A R)^-1 R' with W = R R': weights may be 0
    R = samples.roots
    flat = np.swapaxes(R, 1, 2)
    return A, R @ np.linalg.inv(eye + flat @ A @ R) @ flat


def _blocks(
    design: KroneckerDesign, B: np.ndarray, means: np.ndarray
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the four blocks of H and what the means add to the first."""
    errors, features, samples = design.errors, design.features, design.samples
    s, t = samples.features, samples.errors
    frames = errors.means.swapaxes(1, 2)
    h = features.means[:, 0]
    square = h[:, :, None] * h[:, None, :]
    # H = sum_c spread_c (x) S^h_c + loose_c (x) h_c h_c': the pieces with the features'
    # noise carry s, those with the errors' noise carry t, and tr B_c becomes sum_k t B
    traces = np.sum(t * np.diagonal(B, axis1=1, axis2=2), axis=1)
    by_noise, by_mean = samples.over(s * traces), samples.over(traces)
    shared = frames @ samples.over(s[:, None, None] * B) @ errors.means
    spread = shared + by_noise[:, None, None] * errors.inside
    loose = by_mean[:, None, None] * errors.inside
    # outside of the errors' frame S^d is a number and Delta is 0, outside of the
    # features' frame S^h is a number and h is 0: one block for each of the four cases
    spread_out, loose_out = by_noise * errors.outside, by_mean * errors.outside
    blocks = (
        _products(spread, features.inside) + _products(loose, square),
        np.tensordot(features.outside, spread, 1),
        np.tensordot(spread_out, features.inside, 1)
        + np.tensordot(loose_out, square, 1),
        np.reshape(spread_out @ features.outside, (1, 1)),
    )
    return blocks, _products(frames @ means @ errors.means, square)


def _products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return sum_c x_c (x) y_c, x (C, b, b) and y (C, a, a): one matrix product."""
    (C, b, _), a = x.shape, y.shape[1]
    made = (x.reshape(C, -1).T @ y.reshape(C, -1)).reshape(b, b, a, a)
    # rows of a Kronecker product are indexed by (row of x, row of y)
    return np.asarray(made.swapaxes(1, 2).reshape(b * a, b * a))


def _expected_forms(design: KroneckerDesign, Q: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the unknowns that the four blocks of Q make, packed."""
    errors, features = design.errors, design.features
    C, _, b = errors.means.shape
    h = features.means[:, 0]
    square = h[:, :, None] * h[:, None, :]
    a = square.shape[1]
    # Partial traces over the features' frame, tr_h[(I (x) Y) Q] for Y = S^h_c and
    # Y = h_c h_c' of all classes in one product: Q with its indices sorted into pairs
    # of errors (row, column) and pairs of features, the inverse of _products' sorting.
    # Y and Q are symmetric, so which of a pair comes first does not matter.
    pairs = Q[0].reshape(b, a, b, a).swapaxes(1, 2).reshape(b * b, a * a)
    traced = pairs @ np.concatenate([features.inside, square]).reshape(2 * C, -1).T
    over_noise, over_mean = traced.T.reshape(2, C, b, b)
    # outside of the features' frame S^h is a number, `rest` times, and h is 0
    over_noise = over_noise + features.rest * features.outside[:, None, None] * Q[1]
    forms = _forms(errors.means, over_noise)
    # then tr over the errors with S^d: inside their frame, and `rest` times outside
    noise = np.sum(errors.inside * over_noise, axis=(1, 2))
    noise += errors.rest * errors.outside * np.sum(features.inside * Q[2], axis=(1, 2))
    noise += design.multiplicities[3] * errors.outside * features.outside * Q[3][0, 0]
    mixed = np.sum(errors.inside * over_mean, axis=(1, 2))
    mixed += errors.rest * errors.outside * np.sum(square * Q[2], axis=(1, 2))
    return np.concatenate([forms.ravel(), noise, mixed])


def _forms(means: np.ndarray, over_noise: np.ndarray) -> np.ndarray:
    """Return Delta_c X_c Delta_c' (C, K, K): full, since all k of a sample share h."""
    return np.asarray(means @ over_noise @ means.swapaxes(1, 2))
