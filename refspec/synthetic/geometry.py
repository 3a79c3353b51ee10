"""Where to plant class means and probabilities: Gram matrices and confusion matrices.

Means enter every spectrum through their Gram matrix alone, so that is how they are
asked for; `means_of_gram` turns a Gram matrix (C, C) into vectors (C, d). Probabilities
are a confusion matrix (C, C), row c the softmax output of every sample of class c, or
one row per sample.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.special

from refspec import checks
from refspec.populations import (
    WIDEST,
    expect_count,
    expect_length,
    expect_semidefinite,
    symmetric_part,
)


def simplex_gram(C: int, norm: float = 1.0) -> np.ndarray:
    """Return the Gram matrix of a regular simplex, norm^2 C/(C-1) (I - 11'/C).

    Cosines are -1/(C-1), the rank is C - 1. Theory: theory/worlds.md#W3.
    """
    C, norm = expect_count("C", C, 2, WIDEST), expect_length("norm", norm)
    gram = np.full((C, C), -1 / (C - 1))
    np.fill_diagonal(gram, 1.0)
    return gram * norm**2


def orthogonal_gram(norms: np.ndarray) -> np.ndarray:
    """Return the Gram matrix of orthogonal vectors with lengths `norms`, shape (C,).

    Theory: theory/worlds.md#W3.
    """
    return np.diag(_lengths(norms) ** 2)


def overlap_gram(overlaps: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Return the Gram matrix of vectors with given cosines (C, C) and lengths (C,).

    Theory: theory/worlds.md#W3.
    """
    norms = _lengths(norms)
    given = checks.host_array("overlaps", overlaps, "(C, C)", sizes={"C": len(norms)})
    overlaps = symmetric_part("overlaps", given)[0]
    if np.any(np.diag(overlaps) != 1):
        raise ValueError(
            "overlaps must be cosines with diagonal exactly 1, got a diagonal of "
            f"{np.diag(overlaps).tolist()}; put the lengths in norms"
        )
    return np.asarray(overlaps * norms[:, None] * norms[None, :])


def means_of_gram(
    gram: np.ndarray, d: int, *, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Return vectors (C, d) with a given Gram matrix: U Lambda^(1/2) Q' with a frame Q.

    The frame is uniformly random with `rng`, the first coordinates without. Theory:
    theory/worlds.md#W3.
    """
    gram, d = checks.host_array("gram", gram, "(C, C)"), expect_count("d", d)
    if not len(gram):
        raise ValueError("gram must have shape (C, C) with C >= 1, got 0; give means")
    if rng is not None:
        checks.expect_generator("rng", rng)
    symmetric, formed = symmetric_part("gram", gram)
    values, vectors = scipy.linalg.eigh(symmetric)
    slack = expect_semidefinite("gram", values, formed)
    rank = int(np.sum(values > slack))
    if rank > d:
        raise ValueError(
            f"gram must have rank <= d = {d}, got rank {rank}; raise the "
            "dimension or lower the rank (a simplex of C means has rank C - 1)"
        )
    kept, out = min(len(gram), d), np.zeros((len(gram), d))
    top = values[::-1][:kept]
    out[:, :kept] = vectors[:, ::-1][:, :kept] * np.sqrt(np.where(top > slack, top, 0))
    return out if rng is None else out @ _rotation(d, rng)


def confusion(C: int, alpha: float | None = None) -> np.ndarray:
    """Return the probabilities (C, C) of a classifier that errs evenly.

    1 - alpha on the diagonal, alpha / (C - 1) off it; chance, alpha = (C - 1) / C, by
    default. Theory: theory/worlds.md#W4.
    """
    C = expect_count("C", C, 2, WIDEST)
    if alpha is None:
        return np.full((C, C), 1 / C)
    alpha = checks.expect_probability("alpha", alpha)
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
    """Draw probabilities (N, C) like a network's: softmax of confidence e_c + spread z.

    z is standard Gaussian. Theory: theory/worlds.md#W4.
    """
    C, y = expect_count("C", C, 2), as_labels(labels)
    if y.ndim != 1 or y.dtype.kind not in "iu" or np.any((y < 0) | (y >= C)):
        raise ValueError(
            f"labels must be integers in 0..C-1 = 0..{C - 1} of shape (N,), got "
            f"{y.dtype} of shape {y.shape}; give one class index per sample"
        )
    confidence = checks.expect_number("confidence", confidence)
    spread = checks.expect_positive("spread", spread, zero=True)
    checks.expect_generator("rng", rng)
    logits = spread * rng.standard_normal((len(y), C))
    logits[np.arange(len(y)), y] += confidence
    return np.asarray(scipy.special.softmax(logits, axis=1))


def per_sample(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return probabilities (N, C): row c of a confusion matrix for each of class c.

    One row a sample stays as it is; (C, C) where N = C is both. Theory:
    theory/worlds.md#W4.
    """
    C, N = int(np.max(labels)) + 1, len(labels)
    p = checks.host_array("probabilities", probabilities, "(rows, C)", sizes={"C": C})
    if len(p) not in (C, N):
        raise ValueError(
            f"probabilities must have shape (C, C) = {(C, C)}, one row a class, or "
            f"(N, C) = {(N, C)}, one a sample, got {p.shape}; see "
            "refspec.synthetic.geometry.confusion"
        )
    checks.expect_nonnegative("probabilities", p)
    checks.expect_sum_one("rows of probabilities", p, 1)
    return p[labels] if len(p) == C else p


def as_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels as one array, whatever it holds."""
    try:
        return np.asarray(labels)
    except ValueError as error:
        raise ValueError(
            "labels must be integers of shape (N,), got rows of several lengths; "
            "give one class index per sample"
        ) from error


def _lengths(norms: np.ndarray) -> np.ndarray:
    """Check lengths, shape (C,)."""
    checked = checks.host_array("norms", norms, "(C,)", nonnegative=True)
    expect_length("norms", float(np.max(checked, initial=0.0)))
    return checked


def _rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a Haar orthogonal matrix: QR of a Gaussian one, signs made those of R."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return np.asarray(q * np.sign(np.diag(r)))
