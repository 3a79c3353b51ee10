"""Classifiers in PyTorch that differentiation is tested on: name -> (model, inputs).

Small ones of every module with parameters, those that published curvature libraries
test with (built anew from their description), wrapped ones, and torchvision's.
"""

import sys
import types
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

N, C = 6, 3
LABELS = torch.tensor([1, 0, 2, 2, 0, 1])


class Wrap(nn.Module):
    """A body, a function of what it gives, and a last layer."""

    def __init__(self, body, seen, width):
        super().__init__()
        self.body, self.seen, self.head = body, seen, nn.Linear(width, C)

    def forward(self, x):
        return self.head(self.seen(self.body, x))


def mlp(*sides, kind=nn.Tanh, bias=True):
    steps = []
    for a, b in pairwise(sides):
        steps += [nn.Linear(a, b, bias=bias), kind()]
    return nn.Sequential(*steps[:-1])


def images(channels=2, side=6):
    return torch.randn(N, channels, side, side)


def convnet(*body, width, **how):
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(width, C)), images(**how)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(2), nn.Linear(2, C)

    def forward(self, x):
        x = x + self.b(torch.relu(self.norm(self.a(x))))
        return self.head(x.mean((2, 3)))


class Unet(nn.Module):
    """Down, up by a transposed convolution, and what was before beside it."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(3, 2, 2, stride=2)
        self.head = nn.Conv2d(4, C, 1)

    def forward(self, x):
        y = torch.cat([x, torch.sigmoid(self.up(torch.tanh(self.down(x))))], 1)
        return self.head(y).mean((2, 3))


class Tied(nn.Module):
    """The embedding is the last layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(C, 4)
        self.mix = nn.Linear(4, 4)
        self.last = nn.Linear(4, C, bias=False)
        self.last.weight = self.embed.weight

    def forward(self, x):
        return self.last(torch.tanh(self.mix(self.embed(x).mean(1))))


class Twice(nn.Module):
    """A weight used again functionally."""

    def __init__(self):
        super().__init__()
        self.w = nn.Linear(3, 3)

    def forward(self, x):
        return functional.linear(torch.tanh(self.w(x)), self.w.weight)


class Attention(nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **how)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, C)

    def forward(self, x):
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.head(x.mean(1))


class Decoder(nn.Module):
    """A causal language model's block, its logits at the last token."""

    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Embedding(9, 8), nn.Embedding(5, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, norm_first=True, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, C, bias=False)

    def forward(self, x):
        x = self.token(x) + self.place(torch.arange(x.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=x.dtype)
        return self.head(self.norm(self.blocks(x, mask=mask))[:, -1])


class Named(nn.Module):
    """Named inputs, and an output that holds the logits."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, C)

    def forward(self, ids, mask):
        x = self.embed(ids) * mask[:, :, None]
        return {"logits": self.head(torch.tanh(x.sum(1))), "hidden": x}


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, C), nn.Bilinear(3, 4, C)

    def forward(self, x, y):
        return self.one(x) + self.two(x, y)


class Scale(nn.Module):
    """A parameter of its own, and a product with a frozen one."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, C)

    def forward(self, x):
        return self.scale * self.b(functional.softplus(self.a(x * self.frozen)))


class Backwards(nn.Module):
    """Layers that are named in another order than they run."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(5, C), nn.Linear(4, 5)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    model = mlp(4, 5, C)
    model[0].register_forward_hook(lambda *x: 2 * x[2])
    return model


def weight_normed():
    model = mlp(4, 5, C)
    with torch.no_grad():
        nn.utils.weight_norm(model[0])
    return model


def pruned():
    model = mlp(4, 5, C)
    prune.l1_unstructured(model[0], "weight", 0.3)
    return model


def parametrized(kind):
    model = mlp(4, 5, C)
    kind(model[0])
    return model


def trained_norms(model):
    """Give normalisations running averages and weights that are no 0 and 1."""
    for x in model.modules():
        if isinstance(x, nn.modules.batchnorm._BatchNorm):
            x.running_mean.normal_()
            x.running_var.uniform_(0.5, 2)
        if getattr(x, "affine", False) or isinstance(x, nn.LayerNorm):
            nn.init.normal_(x.weight, 1, 0.3)
            if x.bias is not None:
                nn.init.normal_(x.bias, 0, 0.3)
    return model


def recurrent(kind, **how):
    wide = 5 * (2 if how.get("bidirectional") else 1)
    body = kind(4, 5, batch_first=True, **how)
    return Wrap(body, lambda r, x: r(x)[0][:, -1], wide), torch.randn(N, 4, 4)


def flat(model, width=4):
    return model, torch.randn(N, width)


def sequences(model, width=8, length=5):
    return model, torch.randn(N, length, width)


def tokens(model, count, length=4):
    return model, torch.randint(count, (N, length))


def mixed_over_positions(kind):
    return Wrap(nn.Linear(4, 5), lambda f, x: kind(f(x)).mean(1), 5)


SMALL = {
    # those of curvlinops, nngeometry, ViViT and hessian-eigenthings
    "linear": lambda: flat(nn.Linear(4, C)),
    "linear without bias": lambda: flat(nn.Linear(4, C, bias=False)),
    "mlp, relu": lambda: flat(mlp(4, 6, 5, C, kind=nn.ReLU)),
    "mlp, sigmoid": lambda: flat(mlp(4, 6, C, kind=nn.Sigmoid)),
    "mlp, tanh": lambda: flat(mlp(4, 6, 5, C)),
    "mlp, gelu": lambda: flat(mlp(4, 6, C, kind=nn.GELU)),
    "mlp, elu, no bias": lambda: flat(mlp(4, 6, C, kind=nn.ELU, bias=False)),
    "mlp, leaky relu": lambda: flat(mlp(4, 6, C, kind=nn.LeakyReLU)),
    "mlp, softplus": lambda: flat(mlp(4, 6, C, kind=nn.Softplus)),
    "mlp, dropout": lambda: flat(
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, C))
    ),
    "mlp, batch norm": lambda: flat(
        nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, C))
    ),
    "mlp, layer norm": lambda: flat(
        nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, C))
    ),
    "conv": lambda: convnet(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), width=108),
    "conv, max pool": lambda: convnet(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), width=27
    ),
    "conv, average pool": lambda: convnet(
        nn.Conv2d(2, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), width=3
    ),
    "conv, stride, dilation": lambda: convnet(
        nn.Conv2d(2, 3, 3, stride=2, dilation=2, padding=2), nn.Sigmoid(), width=27
    ),
    "conv, reflected": lambda: convnet(
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.Tanh(), width=72
    ),
    "conv1d": lambda: (
        nn.Sequential(nn.Conv1d(4, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, C)),
        torch.randn(N, 4, 5),
    ),
    "conv3d": lambda: (
        nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, C)),
        torch.randn(N, 1, 3, 3, 3),
    ),
    "weight sharing": lambda: sequences(mixed_over_positions(torch.relu), width=4),
    "residual, batch norm": lambda: (Residual(), images()),
    "u-net": lambda: (Unet(), images()),
    "scale": lambda: flat(Scale()),
    "last layer named first": lambda: flat(Backwards()),
    "two inputs": lambda: (Pair(), (torch.randn(N, 3), torch.randn(N, 4))),
    "named inputs and output": lambda: (
        Named(),
        {"ids": torch.randint(9, (N, 4)), "mask": torch.rand(N, 4)},
    ),
    # every other module that has parameters
    "grouped conv": lambda: convnet(
        nn.Conv2d(2, 4, 3, groups=2, padding=1), nn.Tanh(), nn.MaxPool2d(3), width=16
    ),
    "depthwise conv": lambda: convnet(
        nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 3, 1), nn.SiLU(), width=48
    ),
    "transposed conv1d": lambda: (
        nn.Sequential(
            nn.ConvTranspose1d(4, 2, 3, stride=2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(22, C),
        ),
        torch.randn(N, 4, 5),
    ),
    "transposed conv2d, groups": lambda: convnet(
        nn.ConvTranspose2d(2, 2, 2, stride=2, groups=2),
        nn.Tanh(),
        nn.MaxPool2d(4),
        width=18,
    ),
    "transposed conv3d": lambda: (
        nn.Sequential(
            nn.ConvTranspose3d(1, 1, 2), nn.Tanh(), nn.Flatten(), nn.Linear(27, C)
        ),
        torch.randn(N, 1, 2, 2, 2),
    ),
    "group norm": lambda: convnet(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(4), width=4
    ),
    "instance norm": lambda: convnet(
        nn.Conv2d(2, 3, 3),
        nn.InstanceNorm2d(3, affine=True),
        nn.Tanh(),
        nn.AvgPool2d(2),
        width=12,
    ),
    "rms norm": lambda: flat(
        nn.Sequential(nn.Linear(4, 5), nn.RMSNorm(5), nn.Tanh(), nn.Linear(5, C))
    ),
    "prelu": lambda: flat(mlp(4, 6, C, kind=nn.PReLU)),
    "embedding": lambda: tokens(
        Wrap(nn.Embedding(7, 4), lambda f, x: f(x).mean(1), 4), 7
    ),
    "embedding bag": lambda: tokens(
        nn.Sequential(nn.EmbeddingBag(7, 4), nn.Tanh(), nn.Linear(4, C)), 7
    ),
    "tied weights": lambda: tokens(Tied(), C),
    "weight used twice": lambda: flat(Twice(), 3),
    "rnn": lambda: recurrent(nn.RNN),
    "lstm": lambda: recurrent(nn.LSTM),
    "lstm, two layers, both ways": lambda: recurrent(
        nn.LSTM, num_layers=2, bidirectional=True
    ),
    "lstm, projected": lambda: (
        Wrap(
            nn.LSTM(4, 5, proj_size=3, batch_first=True),
            lambda r, x: r(x)[0][:, -1],
            3,
        ),
        torch.randn(N, 4, 4),
    ),
    "gru": lambda: recurrent(nn.GRU),
    "lstm cell": lambda: flat(Wrap(nn.LSTMCell(4, 5), lambda r, x: r(x)[0], 5)),
    "gru cell": lambda: flat(Wrap(nn.GRUCell(4, 5), lambda r, x: r(x), 5)),
    "multihead attention": lambda: sequences(Attention()),
    "attention, keys with bias": lambda: sequences(Attention(add_bias_kv=True)),
    "transformer encoder": lambda: sequences(
        Wrap(
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2
            ),
            lambda f, x: f(x).mean(1),
            8,
        )
    ),
    "transformer": lambda: sequences(
        Wrap(
            nn.Transformer(8, 2, 1, 1, 12, batch_first=True),
            lambda f, x: f(x, x[:, :2]).mean(1),
            8,
        )
    ),
    "causal decoder": lambda: tokens(Decoder(), 9, 5),
    # wrapped
    "data parallel": lambda: flat(nn.DataParallel(mlp(4, 5, C))),
    "compiled": lambda: flat(torch.compile(mlp(4, 5, C))),
    "weight norm, old": lambda: flat(weight_normed()),
    "weight norm": lambda: flat(parametrized(parametrizations.weight_norm)),
    "spectral norm": lambda: flat(parametrized(parametrizations.spectral_norm)),
    "orthogonal": lambda: flat(parametrized(parametrizations.orthogonal)),
    "pruned": lambda: flat(pruned()),
    "a linear that computes something else": lambda: flat(
        nn.Sequential(Doubled(4, 5), nn.Tanh(), nn.Linear(5, C))
    ),
    "a hook that doubles": lambda: flat(hooked()),
}


def small(name):
    """Build one of `SMALL` in float64, always the same."""
    torch.manual_seed(0)
    model, inputs = SMALL[name]()
    model = trained_norms(model)
    return model.double().eval(), inputs


def loader(inputs, labels=LABELS, size=4):
    """Batches of `size` samples."""

    def part(x, s):
        if isinstance(x, dict):
            return {k: v[s] for k, v in x.items()}
        return tuple(v[s] for v in x) if isinstance(x, tuple) else x[s]

    parts = [slice(i, i + size) for i in range(0, len(labels), size)]
    return [(part(inputs, s), labels[s]) for s in parts]


def vision():
    """Return torchvision's models."""
    try:
        from torchvision import models
    except RuntimeError:  # its compiled operations, of detection, are another torch's
        for name in [x for x in sys.modules if x.startswith("torchvision")]:
            del sys.modules[name]
        sys.modules["torchvision._meta_registrations"] = types.ModuleType("empty")
        from torchvision import models
    return models


def published(side=64):
    """Return torchvision's networks for images of a side, each a function of nothing.

    Those of convolutions take any.
    """
    models = vision()
    return {
        "resnet18": lambda: models.resnet18(num_classes=C),
        "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=C),
        "densenet121": lambda: models.densenet121(num_classes=C),
        "vit": lambda: with_last(
            models.VisionTransformer(side, 8, 3, 4, 32, 64, num_classes=C)
        ),
    }


def with_last(vit):
    """Its last layer begins as 0, where most derivatives are 0."""
    nn.init.normal_(vit.heads.head.weight)
    return vit
