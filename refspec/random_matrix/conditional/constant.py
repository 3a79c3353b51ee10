r"""Classes of which nothing is left: their part of H - z is eliminated once.

Where :math:`S_c = 0`, in a class that is fitted exactly or has no more samples than
regressors, :math:`E_i = A_i` and :math:`H` has a part that depends on no unknown:

.. math:: K = \sum_i A_i \otimes m_i m_i'.

Let V span the slopes and covariances of all other classes, W what is left of the
features. Beyond errors (x) V there is K alone. With :math:`K_{WW} = R \lambda R'`,
:math:`T = K_{VW} R`, Q on errors (x) V is the inverse of

.. math:: H_{VV} - z - T (\lambda - z)^{-1} T',

of the side of V: a layer whose classes are nearly all constant is solved in few
directions, none of them cut off (Theory: theory/conditional.md#Y6). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from refspec import rounding
from refspec.random_matrix.conditional.design import ConditionalDesign, Constant
from refspec.random_matrix.conditional.resolvent import Beyond
from refspec.random_matrix.outliers import row_space

#: Share of the features that are left, up to which an elimination is worth its while.
_WORTH = 5 / 8


def parted(design: ConditionalDesign) -> ConditionalDesign:
    """Return the design of classes that something is left of, in their features.

    The design itself where that would be most of them. Theory: theory/conditional.md#Y6
    """
    C, h, _ = design.slopes.shape
    if len(design.inside) < C or design.outside.size or np.any(design.layers[0]):
        return design  # one covariance, a tail, or several layers
    left = np.any(design.inside, axis=(1, 2))
    if np.all(left) or not np.any(left):
        return design
    spans = np.concatenate([design.slopes[left], design.inside[left]], axis=2)
    spans = np.reshape(np.swapaxes(spans, 0, 1), (h, -1))
    U, sizes, _ = np.linalg.svd(spans, full_matrices=False)  # as many columns or more
    least = rounding.eigensolver_radius(spans.shape[1], float(sizes[0]), 2.0**-53)
    r = int(np.sum(sizes > least))
    if r > _WORTH * h:
        return design
    V, moving = U[:, :r], left[design.labels]
    return replace(
        design,
        roots=design.roots[moving],
        labels=design.labels[moving],
        regressors=design.regressors[moving],
        slopes=V.T @ design.slopes,
        inside=V.T @ design.inside @ V,
        layers=(design.layers[0], design.layers[1][:r]),
        constant=_constant(design, ~moving, U, r),
    )


def _constant(
    design: ConditionalDesign, still: np.ndarray, U: np.ndarray, r: int
) -> Constant:
    """Return K, of the samples that are constant, in features U, r of them kept."""
    roots, labels = design.roots[still], design.labels[still]
    slopes = np.swapaxes(design.slopes, 1, 2) @ U  # (C, q, h)
    means = (design.regressors[still][:, None] @ slopes[labels])[:, 0]
    n, a, k = roots.shape
    both = np.swapaxes(roots, 1, 2)[..., None] * means[:, None, None]
    here = np.reshape(both[..., :r], (n * k, -1))
    there = np.reshape(both[..., r:], (n * k, -1))
    values, vectors = np.linalg.eigh(there.T @ there)
    basis = row_space(slopes[:, 0])
    spread = basis[:, :r], np.kron(np.eye(a), basis[:, r:]) @ vectors
    return Constant(here.T @ here, (here.T @ there) @ vectors, values, spread)


# a step is a map of the unknowns alone: what depends on z is made once for all at z
@lru_cache(maxsize=1)
def beyond(constant: Constant, z: complex) -> Beyond:
    """Eliminate the directions that constant classes have alone, at one z.

    Theory: theory/conditional.md#Y6
    """
    T, inverses = constant.beside, 1 / (constant.values - z)
    squares = inverses**2
    added = constant.inside - (T * inverses.real) @ T.T
    added = added - 1j * ((T * inverses.imag) @ T.T)
    slope = (T * squares.real) @ T.T + 1j * ((T * squares.imag) @ T.T)
    return Beyond(added, slope, inverses)
