"""Strategies for symmetric matrices whose spectrum is prescribed, and certified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from refspec import checks, rounding
from refspec.backend import Array, Namespace
from refspec.strategies import samples
from refspec.synthetic.worlds import convert

#: What a spectrum can look like.
KINDS = ("plain", "clustered", "graded", "deficient")


@dataclass(frozen=True, slots=True, eq=False)
class Prescribed:
    """A symmetric matrix and what is known of its eigenvalues.

    Parameters
    ----------
    matrix : Array, shape (n, n), symmetric to the bit
    values : ndarray, shape (n,), prescribed, descending, on the host in float64
    radius : float
        Every eigenvalue of the stored matrix lies within this of the value prescribed.
    kind : str, one of `KINDS`
    """

    matrix: Array
    values: np.ndarray
    radius: float
    kind: str


@st.composite
def symmetric_matrices(
    draw: st.DrawFn,
    *,
    kinds: tuple[str, ...] = KINDS,
    positive: bool | None = None,
    min_side: int = 1,
    max_side: int = 8,
    dtype: str = "float64",
    xp: Namespace | None = None,
) -> Prescribed:
    """Draw Q diag(values) Q' with an orthogonal Q.

    Parameters
    ----------
    kinds : tuple of str
        ``plain``: whole numbers up to 9. ``clustered``: whole numbers, some repeated,
        apart by a few roundings or not at all. ``graded``: powers of two over the whole
        precision and beyond, condition up to 2**80. ``deficient``: zero, in part or
        altogether.
    positive : bool, optional
        Positive semidefinite only, if True; values of both signs are allowed if not.
    min_side, max_side : int
        n lies in this range.
    dtype, xp
        Format and library of the matrix; the radius counts the rounding to float32.

    Returns
    -------
    strategy of Prescribed
        Q is the identity or uniformly random. Shrinks to the matrix (0).

    Raises
    ------
    ValueError, TypeError
        If a kind is unknown or the range of sides empty.

    Notes
    -----
    Theory: theory/rounding.md#B5. The radius is that of an approximate eigensystem (Q,
    values) of the stored matrix, rounding included, however it was formed.

    Examples
    --------
    >>> from hypothesis import find
    >>> found = find(symmetric_matrices(), lambda x: x.values[0] > 0)
    >>> bool(found.values[0] > 0), found.matrix.shape == (len(found.values),) * 2
    (True, True)
    """
    samples.expect_range("side n", min_side, max_side, 1)
    kinds = checks.expect_names("kinds", kinds, KINDS)
    if not kinds:
        raise ValueError(f"kinds must be some of {KINDS}, got none; choose from these")
    samples.expect_flags(positive=positive)
    n = draw(st.integers(min_side, max_side))
    kind = draw(st.sampled_from([k for k in KINDS if k in kinds]))
    turned, Q = draw(st.booleans()), np.eye(n)
    if turned:
        rng = np.random.default_rng(draw(samples.seeds))
        Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    values = _values(draw, kind, n)
    if positive:
        values = np.abs(values)
    values = -np.sort(-values)
    A = (Q * values) @ Q.T
    A = ((A + A.T) / 2).astype(dtype).astype(np.float64)
    radius = rounding.residual_radius(A, Q, values)
    return Prescribed(convert(A, dtype, xp), values, radius, kind)


def _values(draw: st.DrawFn, kind: str, n: int) -> np.ndarray:
    """Draw the eigenvalues of a kind, in any order."""
    if kind == "graded":
        sign = samples.choices(draw, [1, -1], n)
        return np.asarray(sign * 2.0 ** -samples.choices(draw, range(81), n))
    if kind == "clustered":  # few distinct values, off by a few units in the last place
        cluster = samples.choices(draw, [1, 2], n)
        return np.asarray(cluster * (1 + 2.0**-52 * samples.choices(draw, range(5), n)))
    values = samples.choices(draw, samples.WHOLE, n)
    if kind == "deficient":
        return np.asarray(values * samples.choices(draw, [0, 1], n))
    return values
