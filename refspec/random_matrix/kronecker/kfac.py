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
    mass, share = samples.over(samples.weights), samples.sizes / np.sum(samples.sizes)
    sides = []
    for side, shares in (
        (design.errors, mass),
        (design.features, share[:, None]),
    ):
        moment = sum(
            (m.T * w) @ m + np.sum(w) * S
            for m, S, w in zip(side.means, side.inside, shares, strict=True)
        )
        outside = np.full(side.rest, np.sum(shares, axis=1) @ side.outside)
        sides.append(np.concatenate([np.linalg.eigvalsh(moment), outside]))
    return np.sort(np.outer(*sides), axis=None)[::-1]
