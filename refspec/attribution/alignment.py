"""How much of the gradient of the loss lies in the top eigenspace of the Fisher.

The gradient is the mean of the rows with c' = c, each divided by its weight: a vector
over the rows, so that its part along an eigenvector is read off the rows too.
"""

from __future__ import annotations

from dataclasses import dataclass

from refspec import backend
from refspec.classes import Snapshot, class_slices
from refspec.curvature import SecondMoment, expect_fisher, moment_of
from refspec.leading import leading
from refspec.results import Result


@dataclass(frozen=True, slots=True)
class Alignment(Result):
    """The gradient of the mean loss beside the k largest eigenvalues of the Fisher.

    Parameters
    ----------
    part : float
        Of its squared length, the part in the span of their eigenvectors.
    first : float
        The part along the first eigenvector alone.
    length : float
        Its length.
    """

    part: float
    first: float
    length: float


def gradient_alignment(network: SecondMoment | Snapshot, k: int) -> Alignment:
    r"""Project the gradient of the mean loss on the top k eigenvectors of the Fisher.

    Parameters
    ----------
    network : SecondMoment or Snapshot
        A Fisher information, its rows as they are; a snapshot stands for that of all
        its layers.
    k : int
        How many eigenvectors, 1 to min(N C, P).

    Returns
    -------
    Alignment
        Of the loss at the labels, :math:`g = \sum_i s_i g_{i,c(i)}`, without weight
        decay. Where the k-th eigenvalue is not apart from the next, the eigenvectors
        are one choice of many.

    Raises
    ------
    TypeError, ValueError
        If it is no Fisher information, there is no gradient (it is zero to the bit), or
        a label's probability is zero, so that its row is lost; if there are no k
        eigenvectors.

    Notes
    -----
    Theory: theory/collapse.md#N2. With rows :math:`x = \sqrt{s p_{c'}} g_{c'}`,
    :math:`g = X'z`, :math:`z_{i,c} = \sqrt{s_i / p_{i,c}}`, and along an eigenvector
    :math:`v = X'u / \sqrt\lambda` it has the part :math:`\lambda (u'z)^2`. Gur-Ari,
    Roberts and Dyer (2018), arXiv 1812.04754. Cost of `refspec.attribute` with `top`.

    Examples
    --------
    >>> import refspec
    >>> found = gradient_alignment(refspec.datasets.wine_sklearn(), 3)
    >>> 0 < found.first <= found.part <= 1
    True
    """
    moment = expect_fisher("network", moment_of(network))
    xp, z, w = moment.xp, [], moment.weights
    for c, i, j in class_slices(moment.offsets):
        s, own = xp.sum(w[i:j, :], axis=1), w[i:j, c]
        if backend.scalar(xp.sum(xp.astype((own == 0) & (s > 0), w.dtype))) > 0:
            raise ValueError(
                "network must give every label a probability above 0, got 0 in class "
                f"{c}: the gradient of that sample is lost; use float64, or leave "
                "the sample out"
            )
        own = xp.where(own > 0, own, xp.ones_like(own))
        here = xp.arange(w.shape[1], device=backend.device(w)) == c
        z.append((s / xp.sqrt(own))[:, None] * xp.astype(here, w.dtype)[None, :])
    seed = backend.concatenate(z)[:, :, None]
    gradient = moment.rows.cross(seed)
    square = backend.scalar(xp.sum(gradient * gradient))
    if not square > 0:
        raise ValueError(
            "network must have a gradient, got one that is zero to the bit; its "
            "direction is not defined"
        )
    top = leading(moment, k)
    along = backend.to_host(xp.sum(top.rows * seed, axis=(0, 1))) ** 2
    parts = along * top.values / square
    return Alignment(float(parts.sum()), float(parts[0]), square**0.5)
