"""Where to plant class means and probabilities: Gram matrices and confusion matrices.

Means enter every spectrum through their Gram matrix alone, so that is how they are
asked for; `means` turns a Gram matrix (C, C) into vectors (C, d). Probabilities are a
confusion matrix (C, C), row c the softmax output of every sample of class c, or one
row per sample.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
import scipy.special

from refspec import rounding

__all__ = [
    "confusion",
    "expect_probabilities",
    "means",
    "orthogonal_gram",
    "overlap_gram",
    "per_sample",
    "simplex_gram",
    "softmax_outputs",
]


def simplex_gram(C: int, norm: float = 1.0) -> np.ndarray:
    r"""Return the Gram matrix of a regular simplex centred at 0.

    Parameters
    ----------
    C : int
        Number of vectors, at least 2.
    norm : float
        Length of each.

    Returns
    -------
    array, shape (C, C)
        :math:`n^2 \frac{C}{C-1} (I - 11'/C)`: cosines -1/(C-1), rank C - 1.

    Raises
    ------
    ValueError
        If C < 2.

    Notes
    -----
    Theory: theory/worlds.md#W3.

    Examples
    --------
    >>> simplex_gram(2).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    _expect_classes(C)
    gram = np.full((C, C), -1 / (C - 1))
    np.fill_diagonal(gram, 1.0)
    return gram * norm**2


def orthogonal_gram(norms: np.ndarray) -> np.ndarray:
    """Return the Gram matrix of orthogonal vectors of the given lengths.

    Parameters
    ----------
    norms : array, shape (C,)

    Returns
    -------
    array, shape (C, C)

    Notes
    -----
    Theory: theory/worlds.md#W3.

    Examples
    --------
    >>> orthogonal_gram(np.asarray([1.0, 2.0])).tolist()
    [[1.0, 0.0], [0.0, 4.0]]
    """
    return np.diag(np.asarray(norms, dtype=np.float64) ** 2)


def overlap_gram(overlaps: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Return the Gram matrix of vectors with given cosines and lengths.

    Parameters
    ----------
    overlaps : array, shape (C, C)
        Cosines: symmetric, diagonal 1.
    norms : array, shape (C,)

    Returns
    -------
    array, shape (C, C)

    Raises
    ------
    ValueError
        If the diagonal is not 1 or the shapes do not fit.

    Notes
    -----
    Theory: theory/worlds.md#W3.

    Examples
    --------
    >>> half = np.asarray([[1.0, 0.5], [0.5, 1.0]])
    >>> overlap_gram(half, np.asarray([1.0, 2.0])).tolist()
    [[1.0, 1.0], [1.0, 4.0]]
    """
    overlaps = np.asarray(overlaps, dtype=np.float64)
    norms = np.asarray(norms, dtype=np.float64)
    C = norms.size
    if norms.shape != (C,) or overlaps.shape != (C, C):
        raise ValueError(
            "overlaps must have shape (C, C) and norms (C,), got "
            f"{overlaps.shape} and {norms.shape}; one row and one norm per class"
        )
    if np.any(np.diag(overlaps) != 1):
        raise ValueError(
            "overlaps must be cosines with diagonal exactly 1, got a diagonal of "
            f"{np.diag(overlaps).tolist()}; put the lengths in norms"
        )
    return np.asarray(overlaps * norms[:, None] * norms[None, :])


def means(
    gram: np.ndarray, d: int, *, rng: np.random.Generator | None = None
) -> np.ndarray:
    r"""Return vectors with a given Gram matrix.

    Parameters
    ----------
    gram : array, shape (C, C)
        Symmetric, positive semidefinite within rounding, of rank at most d.
    d : int
        Dimension.
    rng : numpy.random.Generator, optional
        Turn them to a uniformly random orthonormal frame; the first coordinates
        otherwise.

    Returns
    -------
    array, shape (C, d)

    Raises
    ------
    ValueError
        If no C vectors of dimension d have this Gram matrix: a negative eigenvalue,
        or more than d positive ones.

    Notes
    -----
    Theory: theory/worlds.md#W3. :math:`M = U \Lambda^{1/2} Q'` with Q a (d, r) frame.

    Examples
    --------
    >>> m = means(simplex_gram(3), 2)
    >>> bool(np.max(np.abs(m @ m.T - simplex_gram(3))) < 20 * 2.0**-52)
    True
    """
    gram = np.asarray(gram, dtype=np.float64)
    C = gram.shape[0] if gram.ndim else 0
    if gram.shape != (C, C) or not C or not np.all(np.isfinite(gram)):
        raise ValueError(
            f"Gram matrix must be finite of shape (C, C), got shape {gram.shape}; "
            "entry (c, c') is the inner product of means c and c'"
        )
    slack = 2 * rounding.gamma(C + 2, 2.0**-53) * float(np.sum(np.abs(np.diag(gram))))
    off = float(np.max(np.abs(gram - gram.T)))
    if off > slack:
        raise ValueError(
            "Gram matrix must be symmetric, got entries that differ from their mirror "
            f"by {off:.3g}; give (G + G') / 2"
        )
    values, vectors = scipy.linalg.eigh((gram + gram.T) / 2)
    slack += rounding.eigensolver_radius(C, float(np.max(np.abs(values))), 2.0**-53)
    if values[0] < -slack:
        raise ValueError(
            "Gram matrix must be positive semidefinite, got a smallest eigenvalue of "
            f"{values[0]:.3g}; no vectors have these inner products"
        )
    rank = int(np.sum(values > slack))
    if rank > d:
        raise ValueError(
            f"Gram matrix must have rank <= d = {d}, got rank {rank}; raise the "
            "dimension or lower the rank (a simplex of C means has rank C - 1)"
        )
    kept = min(C, d)
    out = np.zeros((C, d))
    top = values[::-1][:kept]
    out[:, :kept] = vectors[:, ::-1][:, :kept] * np.sqrt(np.where(top > slack, top, 0))
    return out if rng is None else out @ _rotation(d, rng)


def confusion(C: int, alpha: float | None = None) -> np.ndarray:
    r"""Return the probabilities of a classifier that errs evenly.

    Parameters
    ----------
    C : int
        Number of classes, at least 2.
    alpha : float, optional
        Misclassification, in [0, 1]; (C - 1) / C, that is chance, by default.

    Returns
    -------
    array, shape (C, C)
        1 - alpha on the diagonal, alpha / (C - 1) off it; 1/C everywhere at chance.

    Raises
    ------
    ValueError
        If C < 2 or alpha lies outside [0, 1].

    Notes
    -----
    Theory: theory/worlds.md#W4.

    Examples
    --------
    >>> confusion(3, 0.5)[0].tolist()
    [0.5, 0.25, 0.25]
    """
    _expect_classes(C)
    if alpha is None:
        return np.full((C, C), 1 / C)
    if not 0 <= alpha <= 1:
        raise ValueError(
            f"alpha must satisfy 0 <= alpha <= 1, got {alpha}; it is the predicted "
            "probability of a wrong class"
        )
    p = np.full((C, C), alpha / (C - 1))
    np.fill_diagonal(p, 1 - alpha)
    return p


def softmax_outputs(
    labels: np.ndarray,
    C: int,
    *,
    confidence: float,
    spread: float,
    rng: np.random.Generator,
) -> np.ndarray:
    r"""Draw probabilities like those of a trained network, one row a sample.

    Parameters
    ----------
    labels : array of int, shape (N,)
        Class of each sample.
    C : int
        Number of classes.
    confidence : float
        Mean margin of the logit of the true class.
    spread : float
        Standard deviation of every logit, at least 0.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    array, shape (N, C)
        Softmax of ``confidence e_c + spread z``, z standard Gaussian.

    Raises
    ------
    ValueError
        If C < 2, or the confidence or the spread is not finite.

    Notes
    -----
    Theory: theory/worlds.md#W4.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> softmax_outputs(np.asarray([0]), 2, confidence=0.0, spread=0.0, rng=rng)
    array([[0.5, 0.5]])
    """
    _expect_classes(C)
    if not (math.isfinite(confidence) and 0 <= spread < math.inf):
        raise ValueError(
            "confidence must be finite and spread finite and >= 0, got "
            f"{confidence} and {spread}; correct them"
        )
    logits = spread * rng.standard_normal((len(labels), C))
    logits[np.arange(len(labels)), labels] += confidence
    return np.asarray(scipy.special.softmax(logits, axis=1))


def per_sample(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return probabilities (N, C): row c of a confusion matrix for each of class c.

    Parameters
    ----------
    probabilities : array, shape (C, C) or (N, C)
        A confusion matrix, or one row per sample already; (C, C) where N = C and the
        classes have one sample each is both.
    labels : array of int, shape (N,)
        Class of each sample.

    Returns
    -------
    array, shape (N, C)

    Raises
    ------
    ValueError
        As `expect_probabilities`.

    Notes
    -----
    Theory: theory/worlds.md#W4.

    Examples
    --------
    >>> per_sample(confusion(2, 0.25), np.asarray([0, 1, 1])).tolist()
    [[0.75, 0.25], [0.25, 0.75], [0.25, 0.75]]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    C = int(np.max(labels)) + 1
    expect_probabilities(p, C, len(labels))
    return p[labels] if p.shape == (C, C) else p


def expect_probabilities(p: np.ndarray, C: int, N: int) -> None:
    """Check a confusion matrix, or one row of probabilities per sample.

    Parameters
    ----------
    p : array, shape (C, C) or (N, C)
    C, N : int
        Numbers of classes and samples.

    Raises
    ------
    ValueError
        If the shape is neither, an entry is negative or not finite, or a row does not
        sum to 1 within rounding.

    Notes
    -----
    Theory: theory/worlds.md#W4.

    Examples
    --------
    >>> expect_probabilities(confusion(3), 3, 30)
    """
    if p.shape not in ((C, C), (N, C)):
        raise ValueError(
            f"probabilities must have shape (C, C) = {(C, C)}, one row a class, or "
            f"(N, C) = {(N, C)}, one a sample, got {p.shape}; see "
            "refspec.synthetic.geometry"
        )
    if not np.all(np.isfinite(p)) or p.min() < 0:
        raise ValueError(
            "probabilities must be finite and >= 0, got entries from "
            f"{p.min():.3g} to {p.max():.3g}; correct them"
        )
    off = float(np.max(np.abs(p.sum(axis=1) - 1)))
    bound = rounding.gamma(2 * C + 16, 2.0**-53)
    if off > bound:
        raise ValueError(
            f"rows of probabilities must sum to 1 within rounding ({bound:.1e}), got "
            f"a sum off by {off:.3g}; divide each row by its sum"
        )


def _rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a Haar orthogonal matrix: QR of a Gaussian one, signs made those of R."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return np.asarray(q * np.sign(np.diag(r)))


def _expect_classes(C: int) -> None:
    if C < 2:
        raise ValueError(f"number of classes C must be >= 2, got {C}; add classes")
