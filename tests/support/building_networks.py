"""What the networks of published test suites are built of, and how one is stated."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from support.torch_networks import trained_norms

ALL = slice(None)
BN3 = nn.BatchNorm3d
CROSS, SQUARES, BINARY, SOFT = "cross entropy", "squares", "binary", "binary, soft"


@dataclass(frozen=True)
class Published:
    """A network: the suite, how it is made with its inputs, the loss it is given there.

    `classes` says on which axis of the outputs they are; `parameters` chooses some.
    """

    suite: str
    make: object
    loss: str = CROSS
    classes: int = -1
    parameters: tuple = None
    slow: bool = False

    def build(self):
        """Return the model in float64, in eval mode, and inputs; always the same."""
        torch.manual_seed(0)
        model, inputs = self.make()
        model = trained_norms(model).double().eval()
        return model, inputs

    def labels(self, shape):
        """Return class labels for outputs of a shape."""
        axis = self.classes % len(shape)
        rest = [n for k, n in enumerate(shape) if k != axis]
        count = torch.tensor(rest).prod().item()
        return ((5 * torch.arange(count)) % max(2, shape[axis])).reshape(rest)

    def targets(self, shape):
        """Return targets as of the loss that is no cross entropy."""
        torch.manual_seed(1)
        if self.loss == BINARY:
            return torch.randint(2, tuple(shape)).double()
        return torch.rand(*shape, dtype=torch.float64)


class Graph(nn.Module):
    """Some modules or parameters by name, and a function of them and the inputs."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, given):
        return self.run(self, given)


def own(*shape):
    return nn.Parameter(torch.randn(*shape) / 2)


def fed(*shape, make=torch.rand):
    """Return a function that puts inputs of a shape beside the model."""
    return lambda model: (model, make(*shape))


def chain(*steps):
    return nn.Sequential(*steps)


def dense(*sides, kind=nn.ReLU, bias=True):
    """Linear layers with an activation between them; without one where it is None."""
    steps = []
    for a, b in pairwise(sides):
        steps += [nn.Linear(a, b, bias=bias), kind() if kind else None]
    return chain(*[x for x in steps[:-1] if x is not None])


def positions_first(x):
    return x.permute(0, *range(2, x.ndim), 1)


def classes_first(x):
    return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))


def then(model, run):
    """Put a function after a model."""
    return Graph(lambda own, x: run(own.body(x)), body=model)


def mean_over_positions(x):
    return x.flatten(1, -2).mean(1)


def frozen(module, name):
    getattr(module, name).requires_grad_(False)
    return module


def fixed(module):
    return module.requires_grad_(False)


class Sum(nn.Module):
    """Sums over all but the first axes."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.sum(self.axes)


class Beside(nn.Module):
    """The sum of what two modules give."""

    def __init__(self, one, two):
        super().__init__()
        self.one, self.two = one, two

    def forward(self, x):
        return self.one(x) + self.two(x)


class First(nn.Module):
    """The first of several outputs."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)[0]


class Part(nn.Module):
    """A part of the outputs."""

    def __init__(self, *where):
        super().__init__()
        self.where = where

    def forward(self, x):
        return x[self.where]


class Moved(nn.Module):
    """Axes in another order."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)
