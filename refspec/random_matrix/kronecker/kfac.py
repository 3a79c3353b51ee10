"""What KFAC predicts of the spectrum of gradients: products of its factors' values."""

from __future__ import annotations

import numpy as np

from refspec.random_matrix.kronecker.design import KroneckerDesign


def kfac_eigenvalues(design: KroneckerDesign) -> np.ndarray:
    """Return all P products of the eigenvalues of E h h' and of E delta delta'.

    Descending. C orthogonal means of equal length give C^2 equal ones where there are
    C, each too small by the factor C. Theory: theory/kronecker_designs.md#G5
    """
    samples = design.samples
    share = samples.sizes / np.sum(samples.sizes)
    sides = []
    for side, shares in (
        (design.errors, samples.moments),
        (design.features, share[:, None, None]),
    ):
        masses = np.trace(shares, axis1=1, axis2=2)
        moment = sum(
            m.T @ w @ m + mass * S
            for m, S, w, mass in zip(
                side.means, side.inside, shares, masses, strict=True
            )
        )
        outside = np.full(side.rest, masses @ side.outside)
        sides.append(np.concatenate([np.linalg.eigvalsh(moment), outside]))
    return np.sort(np.outer(*sides), axis=None)[::-1]
