"""The networks of nngeometry 0.4, built anew, in its sizes.

Of tests/tasks.py, test_torch_hooks_kfac.py and test_dtypes.py; images of 28 x 28 pixels
are drawn at random in place of MNIST's.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from support.building_networks import BINARY, CROSS, Graph, Sum, chain, dense, fed


class Cosine(nn.Linear):
    """The cosine of the inputs with each row of the weight."""

    def __init__(self, a, b):
        super().__init__(a, b, bias=False)

    def forward(self, x):
        rows = self.weight / ((self.weight**2).sum(1, keepdim=True) + 1e-5).sqrt()
        return functional.linear(x / ((x**2).sum(1, keepdim=True) + 1e-5).sqrt(), rows)


class Normed(nn.Linear):
    """Rows of the weight at length 1."""

    def __init__(self, a, b):
        super().__init__(a, b, bias=False)

    def forward(self, x):
        rows = self.weight / ((self.weight**2).sum(1, keepdim=True) + 1e-5).sqrt()
        return functional.linear(x, rows)


class NormedConv(nn.Conv2d):
    """Kernels at length 1."""

    def __init__(self, *given):
        super().__init__(*given, bias=False)

    def forward(self, x):
        size = (self.weight**2).sum((1, 2, 3), keepdim=True) + 1e-5
        return self._conv_forward(x, self.weight / size.sqrt(), None)


class Affine(nn.Module):
    """A scale and a shift of each feature."""

    def __init__(self, n, bias=True):
        super().__init__()
        self.weight = nn.Parameter(1 + torch.randn(n) / 4)
        self.bias = nn.Parameter(torch.randn(n) / 4) if bias else None

    def forward(self, x):
        x = x * self.weight
        return x if self.bias is None else x + self.bias


class Cut(nn.Module):
    """The middle 18 x 18 pixels, flat or not."""

    def __init__(self, flat=True):
        super().__init__()
        self.flat = flat

    def forward(self, x):
        x = x[:, :, 5:-5, 5:-5]
        return x.reshape(len(x), -1) if self.flat else x


def fully_connected(C, how=None):
    steps = [Cut()]
    for k, (a, b) in enumerate(pairwise((324, 10, 10, C))):
        kind = {"weight": Normed, "cosine": Cosine}.get(how)
        steps.append(kind(a, b) if kind else nn.Linear(a, b, bias=how is None))
        if how == "batch":
            steps.append(nn.BatchNorm1d(b))
        if how == "affine":
            steps.append(Affine(b, bias=k % 2 == 0))
        steps.append(nn.ReLU())
    return chain(*steps[:-1])


def images(model, n=6):
    return model, torch.randn(n, 1, 28, 28)


def conv_net(C, how=None):
    norms = {"batch": nn.BatchNorm2d(6), "group": nn.GroupNorm(2, 6)}
    first = nn.Conv2d(1, 6, 3, 2, bias=how is None)
    narrow = {"weight": lambda: [Normed(7, 4)]}.get(how, lambda: [nn.Linear(7, 4)])()
    if how == "batch":
        narrow.append(nn.BatchNorm1d(4))
    return chain(
        NormedConv(1, 6, 3, 2) if how == "weight" else first,
        *([norms[how]] if how in norms else []),
        *(nn.ReLU(), nn.AvgPool2d(2, 2), nn.Conv2d(6, 5, 4, bias=False), nn.ReLU()),
        *(nn.AvgPool2d(2, 2), nn.Conv2d(5, 7, 3, 1, 1), nn.ReLU(inplace=True)),
        *(nn.Flatten(), *narrow, nn.ReLU(), nn.Linear(4, C)),
    )


def small_conv(C, how):
    pair = (
        (NormedConv(1, 6, 3, 2), NormedConv(6, C, 2, 3))
        if how == "weight"
        else (
            nn.ConvTranspose2d(1, 6, (3, 2), 2),
            nn.ConvTranspose2d(6, C, (2, 3), 3, bias=False),
        )
    )
    return chain(Cut(False), pair[0], nn.ReLU(), pair[1], nn.ReLU(), Sum(2, 3))


def both(before, one, two, sign=1):
    """Sums of what two modules give, side by side."""

    def run(own, x):
        x = own.before(x)
        pair = own.one(x), own.two(sign * x)
        return torch.stack([y.flatten(1).sum(1) for y in pair], 1)

    return Graph(run, before=before, one=one, two=two)


def two_batch_norms():
    def run(own, x):
        channels = own.image(torch.cat([x, x.transpose(2, 3)], 1)).flatten(1)
        return own.last(torch.cat([channels, own.flat(x.flatten(1))], 1))

    parts = {"image": nn.BatchNorm2d(2), "flat": nn.BatchNorm1d(784)}
    return Graph(run, **parts, last=nn.Linear(2352, 5))


def skip():
    def run(own, x):
        x = torch.relu(own.a(x))
        y = torch.relu(own.c(torch.relu(own.b(x))))
        return torch.relu(own.d(y + x)).sum((2, 3))

    sides = {"a": (1, 2), "b": (2, 2), "c": (2, 2), "d": (2, 3)}
    return Graph(run, **{k: nn.Conv2d(*x, 3, 1, 1) for k, x in sides.items()})


def conv1d_net():
    return chain(
        *(nn.Flatten(2), nn.Conv1d(1, 6, 3, 3), nn.ReLU()),
        *(nn.Conv1d(6, 5, 4, 8, bias=False), nn.ReLU(), nn.Conv1d(5, 2, 4, 4)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(16, 4)),
    )


NORMS = {
    "layer norm": lambda *n: nn.LayerNorm(n),
    "layer norm, no bias": lambda *n: nn.LayerNorm(n, bias=False),
    "rms norm": lambda *n: nn.RMSNorm(n),
}
NNGEOMETRY = {
    **{
        f"fully connected{f', {how} norm' if how else ''}": (
            lambda how=how: images(fully_connected(3, how)),
        )
        for how in (None, "batch", "weight", "cosine", "affine")
    },
    "fully connected, one output": (lambda: images(fully_connected(1)), BINARY),
    "fully connected, last layer": (
        lambda: images(fully_connected(3)),
        CROSS,
        -1,
        ("5",),
    ),
    "segmentation": (
        lambda: images(chain(fully_connected(48), nn.Unflatten(1, (3, 4, 4)))),
        CROSS,
        1,
    ),
    **{
        f"conv net{f', {how} norm' if how else ''}": (
            lambda how=how: images(conv_net(3, how)),
        )
        for how in (None, "batch", "group", "weight")
    },
    "conv net, one output": (lambda: images(conv_net(1)), BINARY),
    "conv net, group norm, one output": (
        lambda: images(conv_net(1, "group")),
        BINARY,
    ),
    "small conv net, weight norm": (lambda: images(small_conv(3, "weight")),),
    "small conv net, transposed": (lambda: images(small_conv(3, "transposed")),),
    "two linear, summed": (
        lambda: images(
            both(nn.Flatten(), nn.Linear(784, 3), nn.Linear(784, 7, bias=False))
        ),
    ),
    "two conv, summed": (
        lambda: images(
            both(nn.Identity(), nn.Conv2d(1, 5, 3), nn.Conv2d(1, 3, 2, bias=False))
        ),
    ),
    "two batch norms after a linear": (
        lambda: images(
            both(
                *(chain(nn.Flatten(), nn.Linear(784, 100)), nn.BatchNorm1d(100)),
                *(nn.BatchNorm1d(100), -1),
            )
        ),
        CROSS,
        -1,
        ("one", "two"),
    ),
    "two batch norms after a conv": (
        lambda: images(
            both(nn.Conv2d(1, 5, 3, 3), nn.BatchNorm2d(5), nn.BatchNorm2d(5), -1)
        ),
        CROSS,
        -1,
        ("one", "two"),
    ),
    "batch norms before a linear": (lambda: images(two_batch_norms()),),
    "embedding": (
        lambda: (
            chain(nn.Embedding(10, 3), Sum(1)),
            torch.randint(0, 5, (8, 4)),
        ),
    ),
    "skip connection": (lambda: images(skip()),),
    "conv1d": (lambda: images(conv1d_net()),),
    **{
        name: (lambda make=make: images(chain(Cut(), nn.Linear(324, 3), make(3))),)
        for name, make in NORMS.items()
    },
    **{
        f"conv, {name}": (
            lambda make=make: images(
                chain(Cut(False), nn.Conv2d(1, 3, (3, 2), 2), make(3, 8, 9), Sum(2, 3))
            ),
        )
        for name, make in NORMS.items()
    },
    "linear on tokens": (lambda: fed(8, 5, 4)(chain(nn.Linear(4, 3), Sum(1))),),
    **{
        f"{name} on tokens": (lambda make=make: fed(8, 5, 4)(chain(make(4), Sum(1))),)
        for name, make in NORMS.items()
    },
    "kfac, conv1d summed": (
        lambda: (chain(nn.Conv1d(3, 4, 3), Sum(2)), torch.ones(8, 3, 5)),
    ),
    "kfac, conv2d summed": (
        lambda: (chain(nn.Conv2d(3, 4, 3), Sum(2, 3)), torch.ones(8, 3, 5, 7)),
    ),
    "kfac, one input again and again": (
        lambda: (dense(324, 10, 10, 10), torch.rand(1, 324).repeat(8, 1)),
    ),
    "softmax at the end": (
        lambda: fed(8, 10)(chain(dense(10, 5, 2, kind=None), nn.Softmax(1))),
    ),
    "deep linear 2-3-2": (lambda: fed(8, 2)(dense(2, 3, 2, kind=None)),),
}
