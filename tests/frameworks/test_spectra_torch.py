"""Spectra of the embedded export at full size, against torch's products and MKL."""

import numpy as np
import pytest
import torch

from refspec import curvature, datasets, rounding, spectra

U = 2.0**-53


def rows_by_torch(snapshot, layers):
    """Every row sqrt(s p) errors (x) features, in float64, by torch alone."""
    s, p = torch.tensor(snapshot.sample_weights), torch.tensor(snapshot.probabilities)
    root = torch.sqrt(s[:, None] * p)
    parts = []
    for x in snapshot.layers:
        if x.name in layers:
            h, e = torch.tensor(x.features), torch.tensor(x.errors)
            g = torch.einsum("nctb,nta->ncba", e, h) * root[:, :, None, None]
            parts.append(g.reshape(g.shape[0] * g.shape[1], -1))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("layers", [["fc3"], ["fc1", "fc2", "fc3"]])
def test_fisher_spectrum_is_torchs(layers):
    snapshot = datasets.digits_mlp()
    found = spectra.spectrum(curvature.fisher(snapshot, layers))
    X = rows_by_torch(snapshot, layers)
    true = torch.linalg.eigvalsh(X.T @ X).flip(0).numpy()
    trace = float((X * X).sum())
    theirs = rounding.second_moment_radius(sum(X.shape), trace, U)
    theirs += rounding.eigensolver_radius(len(true), trace, U)
    computed = np.zeros(len(true))
    n = min(len(true), len(found.values))
    computed[:n] = found.values[:n]
    assert np.abs(computed - true).max() <= found.radius + theirs
    assert not abs(computed[0] * (1 + 2.0**-20) - true[0]) <= found.radius + theirs
