"""The real networks that peers are compared on, in torch and as refspec sees them.

All are exported: a snapshot knows the layers, and but for attention the network too.
One network each with batch norm, with a residual sum and with attention are moments by
differentiation as well, of all their parameters; those of a norm are no layer's.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

import refspec
from refspec.exporters.torch import export, moment

nn = torch.nn


@dataclass(frozen=True)
class Case:
    """A trained torch network in float64, its samples and what refspec sees of it."""

    name: str
    model: torch.nn.Module
    X: torch.Tensor
    y: torch.Tensor
    snapshot: refspec.Snapshot
    moment: refspec.curvature.SecondMoment | None = None

    @property
    def expected(self):
        """What refspec knows, and the order of its parameters."""
        if self.moment is not None:
            return self.moment, "row_major"
        return self.snapshot, "torch"

    @property
    def layers(self):
        """The parameters of the snapshot's layers by name, weight and then bias."""
        known = {x.name for x in self.snapshot.layers}
        every = self.model.named_parameters()
        return {name: p for name, p in every if name.rpartition(".")[0] in known}

    @property
    def covered(self):
        """Which of all parameters those of the snapshot's layers are, (P,)."""
        parts = [
            torch.full((p.numel(),), name in self.layers)
            for name, p in self.model.named_parameters()
        ]
        return torch.cat(parts)

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
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 10),
    ).double()
    return _case("cnn", *_trained(model))


@cache
def norm():
    """Return a CNN with batch norm, trained and then evaluated."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 10),
    ).double()
    return _differentiated("norm", *_trained(model))


class Residual(nn.Module):
    """A block that adds its input to what it makes of it."""

    def __init__(self):
        super().__init__()
        self.enter, self.inside, self.leave = (
            nn.Linear(64, 12),
            nn.Linear(12, 12),
            nn.Linear(12, 10),
        )

    def forward(self, x):
        """Return the logits."""
        h = torch.tanh(self.enter(x.flatten(1)))
        return self.leave(h + torch.tanh(self.inside(h)))


@cache
def residual():
    """Return a network with a residual sum."""
    torch.manual_seed(0)
    return _differentiated("residual", *_trained(Residual().double()))


class Attention(nn.Module):
    """One head over the rows of an image, and a layer norm."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.norm, self.leave = nn.LayerNorm(8), nn.Linear(8, 10)

    def forward(self, x):
        """Return the logits."""
        x = x.flatten(1, 2)
        q, k, v = self.query(x), self.key(x), self.value(x)
        weights = torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=2)
        return self.leave(self.norm(x + weights @ v).mean(dim=1))


@cache
def attention():
    """Return a network with attention."""
    torch.manual_seed(0)
    return _differentiated("attention", *_trained(Attention().double()))


def _trained(model):
    """Fit a model to 100 digits, in a second; return it with them, evaluated."""
    from sklearn.datasets import load_digits

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
    return model.eval(), X, y


def _differentiated(name, model, X, y):
    return replace(_case(name, model, X, y), moment=moment(model, [(X, y)]))


def _case(name, model, X, y):
    snapshot = export(model, [(X, y)], None, dtype=torch.float64)
    return Case(name, model, X, y, snapshot)


CASES = {
    "mlp": mlp,
    "cnn": cnn,
    "norm": norm,
    "residual": residual,
    "attention": attention,
}
