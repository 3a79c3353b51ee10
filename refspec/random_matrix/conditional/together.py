r"""Features of layers together, given class and outputs.

Each layer has the means, slopes and covariances S_l of its own regression, weighed by
its own errors, so that it is alone what it is in company. Between layers stands the
correlation of what their regressions leave,

.. math:: S_{lm} = T_l\, J_{lm}\, T_m', \qquad T_l = S_l^{1/2} J_{ll}^{-1/2},

J the second moment of all residuals side by side. The whole is a covariance
(Theory: theory/conditional.md#Y5). Host arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from refspec import rounding
from refspec.populations import square_root
from refspec.random_matrix.conditional.design import (
    Regression,
    regression,
    shares_in_class,
)


def together(
    features: Sequence[np.ndarray],
    outputs: np.ndarray,
    labels: np.ndarray,
    covariances: str,
    weights: Sequence[np.ndarray | None],
) -> tuple[Regression, np.ndarray]:
    """Fit features (N, d_l) of layers on outputs, weighed in each; return xi too.

    As `regression`, of the features side by side; xi is that of the last layer.
    Theory: theory/conditional.md#Y5
    """
    pairs = list(zip(features, weights, strict=True))
    fits = [regression(h, outputs, labels, covariances, a) for h, a in pairs]
    xi = fits[-1][1]
    if len(fits) == 1:
        return fits[0][0], xi
    first = np.searchsorted(labels, np.arange(labels[-1] + 1))
    slopes, left = [], []
    for (h, a), (fitted, own) in zip(pairs, fits, strict=True):
        # outputs have another mean, in each class, where samples weigh otherwise
        U = np.array(fitted.slopes)
        U[:, :, 0] += np.einsum("cdq,cq->cd", U, (own - xi)[first])
        shares, mass = shares_in_class(labels, None if a is None else np.sqrt(a))
        shares = shares * mass[labels] if covariances == "pooled" else shares
        residual = h - np.einsum("ndq,nq->nd", U[labels], xi)
        slopes.append(U)
        left.append(residual * np.sqrt(shares)[:, None])
    X, s = np.concatenate(left, axis=1), len(fits[0][0].residual)
    members = [labels == c for c in range(s)] if s > 1 else [labels >= 0]
    S = correlated(
        [fitted.residual for fitted, _ in fits], [X[i].T @ X[i] for i in members]
    )
    samples = np.min([fitted.samples for fitted, _ in fits], axis=0)
    return Regression(np.concatenate(slopes, axis=1), S, samples), xi


def correlated(own: Sequence[np.ndarray], moments: Sequence[np.ndarray]) -> np.ndarray:
    """Put covariances (s, d_l, d_l) on the diagonal, correlations of s moments beside.

    Theory: theory/conditional.md#Y5
    """
    ends = np.cumsum([x.shape[1] for x in own])
    parts = [slice(end - x.shape[1], end) for end, x in zip(ends, own, strict=True)]
    found = []
    for c, J in enumerate(moments):
        T = scipy.linalg.block_diag(
            *(
                square_root(x[c]) @ _inverse_root(J[i, i])
                for x, i in zip(own, parts, strict=True)
            )
        )
        S = T @ J @ T.T
        for x, i in zip(own, parts, strict=True):
            S[i, i] = x[c]
        found.append((S + S.T) / 2)
    return np.stack(found)


def _inverse_root(S: np.ndarray) -> np.ndarray:
    """Return the root of the pseudo-inverse of a covariance."""
    values, vectors = np.linalg.eigh(S)
    least = rounding.eigensolver_radius(len(S), float(np.trace(S)), 2.0**-53)
    seen = values > least
    return np.asarray((vectors[:, seen] / np.sqrt(values[seen])) @ vectors[:, seen].T)
