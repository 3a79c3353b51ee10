"""The two real networks that peers are compared on, in torch and as a Snapshot."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

import refspec
from refspec.exporters.torch import export


@dataclass(frozen=True)
class Case:
    """A trained torch network in float64, its samples and what refspec sees of it."""

    name: str
    model: torch.nn.Module
    X: torch.Tensor
    y: torch.Tensor
    snapshot: refspec.Snapshot

    @property
    def loss(self):
        """Mean cross-entropy over the samples, a graph."""
        return torch.nn.functional.cross_entropy(self.model(self.X), self.y)

    @property
    def batch(self):
        """The one batch, as a loader."""
        return [(self.X, self.y)]

    @property
    def parameters(self):
        """Weight, bias, layer by layer."""
        return list(self.model.parameters())


@cache
def mlp():
    """Return the embedded MLP, 64-32-16-10 with relu, and 100 of its samples."""
    seen = refspec.datasets.digits_mlp()
    steps, weights = [], seen.model.parameters
    for operation in seen.model.operations:
        if operation["op"] == "linear":
            W, b = (
                torch.tensor(weights[operation[x]], dtype=torch.float64)
                for x in ("weight", "bias")
            )
            steps.append(torch.nn.Linear(W.shape[1], W.shape[0], dtype=torch.float64))
            steps[-1].weight.data, steps[-1].bias.data = W, b
        else:
            steps.append(torch.nn.ReLU())
    rows = np.concatenate([np.arange(i, i + 10) for i in seen.offsets[:-1]])
    X = torch.tensor(seen.model.inputs[rows], dtype=torch.float64)
    return _case("mlp", torch.nn.Sequential(*steps), X, torch.tensor(seen.labels[rows]))


@cache
def cnn():
    """Return a CNN trained on 100 digits here, in a second."""
    from sklearn.datasets import load_digits

    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 10),
    ).double()
    X, y = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == c)[:10] for c in range(10)])
    X = torch.tensor(X[rows] / 16.0).reshape(-1, 1, 8, 8)
    y = torch.tensor(y[rows])
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), y).backward()
        optimiser.step()
    model.zero_grad()
    return _case("cnn", model, X, y)


def _case(name, model, X, y):
    snapshot = export(model, [(X, y)], None, dtype=torch.float64)
    return Case(name, model, X, y, snapshot)


CASES = {"mlp": mlp, "cnn": cnn}
