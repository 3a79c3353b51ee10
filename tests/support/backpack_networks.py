"""The networks of BackPACK 1.7, built anew, in its sizes; those of characters 8 wide.

Of test/extensions, test/converter, test/bugfixes_test.py, interface_test.py and the
test_problems_*.py; of the two large ones some parameters.
"""

from itertools import pairwise

import torch
from torch import nn

from support.building_networks import (
    ALL,
    BINARY,
    BN3,
    CROSS,
    SOFT,
    SQUARES,
    Beside,
    First,
    Graph,
    Moved,
    Part,
    Sum,
    chain,
    dense,
    fed,
    fixed,
)
from support.torch_networks import vision


def before_frozen(shape, *steps, C=5):
    """Some steps, flat, and a linear layer that is not trained."""
    inputs = torch.rand(*shape)
    body = chain(*steps, nn.Flatten())
    width = body(inputs).shape[1]
    return chain(*body, fixed(nn.Linear(width, C))), inputs


def convolutions():
    """Shapes of inputs and arguments of convolutions, plain and transposed."""
    plain = {
        1: [(3, 7), (2, 7), (3, 7), (3, 8), (3, 7)],
        2: [(3, 7, 7), (2, 7, 7), (3, 7, 7), (3, 8, 8), (3, 7, 7)],
        3: [(3, 2, 7, 7), (2, 3, 7, 7), (3, 2, 7, 7), (3, 4, 8, 8), (3, 2, 7, 7)],
    }
    how = [(3, 2, 2), (2, 3, 2, 2, 0, 2), (3, 2, 2, 2, 1), (3, 6, 2, 4, 2, 3)]
    how.append((3, 2, 2, 4, 2, 1, 1, False))
    said = ["plain", "dilated", "padded", "padded, dilated", "no bias"]
    turned = [(3, 2, 2), (2, 3, 2, 2, 0, 0, 1, True, 2), (3, 2, 2, 2, 1)]
    turned += [(3, 6, 2, 4, 2, 0, 1, True, 3), (3, 2, 2, 4, 2, 0, 1, False)]
    for d, shapes in plain.items():
        for shape, given, word in zip(shapes, how, said, strict=True):
            if (d, word) == (3, "padded"):
                given = (3, 2, 2, 3, 2)
            yield f"conv{d}d, {word}", getattr(nn, f"Conv{d}d"), shape, given
        for shape, given, word in zip(shapes, turned, said, strict=True):
            if (d > 1 and word == "padded, dilated") or (d, word) == (3, "padded"):
                continue
            if (d, word) == (2, "dilated"):
                shape, given = (2, 9, 9), (2, 4, 2, 1, 0, 0, 1, True, 2)
            if (d, word) == (3, "dilated"):
                shape, given = (2, 3, 5, 5), (2, 3, 2, 2, 2, 0, 1, True, 2)
            kind = getattr(nn, f"ConvTranspose{d}d")
            yield f"transposed conv{d}d, {word}", kind, shape, given
    yield "conv1d, groups", nn.Conv1d, (6, 7), (6, 4, 2, 1, 0, 1, 2)
    yield "conv2d, groups", nn.Conv2d, (6, 7, 5), (6, 3, 2, 1, 0, 1, 3)
    yield "conv3d, groups", nn.Conv3d, (4, 7, 5, 6), (4, 2, 2, 1, 0, 2, 2)
    given = (6, 3, 2, 4, 2, 0, 3, True, 3)
    yield "transposed conv1d, groups", nn.ConvTranspose1d, (6, 8), given
    given = (4, 2, 2, 1, 0, 0, 2, True, 2)
    yield "transposed conv2d, groups", nn.ConvTranspose2d, (4, 9, 9), given
    given = (4, 2, (2, 2, 1), 2, 2, 0, 2, True, 2)
    yield "transposed conv3d, groups", nn.ConvTranspose3d, (4, 3, 5, 5), given


def pools():
    """Shapes of inputs, the convolution, and the pooling after it."""
    for d, wide in ((1, 7), (2, 11), (3, 7)):
        conv, small = getattr(nn, f"Conv{d}d"), (3, *[7] * d)
        large = (3, *[wide] * d)
        largest, mean = (getattr(nn, f"{x}Pool{d}d") for x in ("Max", "Avg"))
        yield f"max pool {d}d", large, conv, largest(2, 1)
        yield f"max pool {d}d, dilated", small, conv, largest(2, 1, 0, 2)
        last = largest(2, 1, 0, 2, False, True)
        yield f"max pool {d}d, dilated, ceil", small, conv, last
        yield f"average pool {d}d", large, conv, mean(2, 1)
        yield f"average pool {d}d, ceil", small, conv, mean(2, 1, 0, True)
        adaptive = getattr(nn, f"AdaptiveAvgPool{d}d")(2)
        yield f"adaptive average pool {d}d", large, conv, adaptive


def conv(a, b):
    return nn.Conv2d(a, b, 3, 1, 1)


def branches(*first, middle, last):
    ends = nn.MaxPool2d(3, 2), nn.Flatten(), last
    return chain(*first, Beside(nn.Identity(), middle), *ends)


def residual_net(width=2):
    """A small residual network of basic blocks with batch norm, three stages."""

    def block(a, b, stride):
        body = chain(
            *(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)),
            *(nn.ReLU(inplace=True), nn.Conv2d(b, b, 3, 1, 1, bias=False)),
            nn.BatchNorm2d(b),
        )
        same = stride == 1 and a == b
        past = chain(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))
        return chain(
            Beside(body, nn.Identity() if same else past), nn.ReLU(inplace=True)
        )

    sides = [width, width, width, 2 * width, 2 * width, 4 * width, 4 * width]
    strides = [1, 1, 2, 1, 2, 1]
    blocks = [
        block(a, b, s) for (a, b), s in zip(pairwise(sides), strides, strict=True)
    ]
    return chain(
        *(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)),
        *(nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), *blocks),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 3)),
    )


def euler_step():
    """One step of size 0.1 along what an mlp gives."""
    return Graph(
        lambda own, x: x + 0.1 * own.net(x), net=dense(2, 10, 10, 2, kind=nn.Tanh)
    )


def several_times():
    def run(own, x):
        x = own.b(own.act(own.a(own.act(x))))
        return own.act(x)

    return Graph(run, a=nn.Linear(3, 2), b=nn.Linear(2, 2), act=nn.ReLU())


def added():
    def run(own, x):
        x = own.a(x)
        one, two = own.b(x), own.c(x)
        return torch.relu(one + two).add(two)

    return Graph(run, a=nn.Linear(3, 3), b=nn.Linear(3, 2), c=nn.Linear(3, 2))


def characters(kind, d=8, V=10):
    """A recurrent model of characters, with frozen biases, classes on axis 1."""
    net = kind(d, d, num_layers=2, dropout=0.36, batch_first=True)
    for name in ("bias_ih_l0", "bias_ih_l1"):
        bias = getattr(net, name)
        nn.init.zeros_(bias).requires_grad_(False)
    return chain(
        *(nn.Embedding(V, d), nn.Dropout(0.2), First(net), nn.Dropout(0.2)),
        *(nn.Linear(d, V), Moved(0, 2, 1)),
    ), torch.randint(V, (4, 6))


def single(kind, act, d, shape):
    """Layers of kernel as wide as the image: one position."""
    wide = {"padding": {1: 5, 2: 2, 3: 3}[d]} if "Transpose" in kind.__name__ else {}
    size = {1: 3, 2: 2, 3: 2}[d] if wide else shape[-1]
    return chain(kind(2, 3, size, **wide), act(), kind(3, 1, 1), nn.Flatten())


def normed_images(*parts):
    return fed(3, 3, 4, 1, 2)(chain(*parts))


def activated(act):
    return chain(nn.Conv2d(3, 3, (3, 2), padding=1), act())


KERNEL = (3, 2)
BACKPACK = {
    "linear 10-5": (lambda: fed(3, 10)(chain(nn.Linear(10, 5))),),
    "two linear": (lambda: fed(3, 10)(dense(10, 7, 5, kind=None)),),
    "mlp 10-7-5": (lambda: fed(3, 10)(dense(10, 7, 5)),),
    "mlp, sigmoid": (lambda: fed(3, 10)(dense(10, 7, 5, kind=nn.Sigmoid)), SQUARES),
    "mlp 6-4-1, soft labels": (lambda: fed(3, 6)(dense(6, 4, 1)), SOFT),
    "mlp 6-4-1": (lambda: fed(3, 6)(dense(6, 4, 1)), BINARY),
    "one sample, mlp 7-3-1": (lambda: fed(1, 7)(dense(7, 3, 1)), SQUARES),
    "one sample, mlp 5-4-3": (lambda: fed(1, 5)(dense(5, 4, 3, kind=nn.Sigmoid)),),
    **{
        f"linear on {len(shape)} position axes, flat": (
            lambda shape=shape, act=act: fed(3, *shape, 5)(
                chain(nn.Linear(5, 3), act(), nn.Linear(3, 2), nn.Flatten())
            ),
        )
        for shape, act in (
            ((4,), nn.Identity),
            ((4, 2), nn.Sigmoid),
            ((4, 2, 3), nn.ReLU),
        )
    },
    **{
        f"linear on {len(shape)} position axes": (
            lambda shape=shape, act=act: fed(3, *shape, 5)(
                chain(nn.Linear(5, 3), act(), nn.Linear(3, 2))
            ),
            SQUARES,
        )
        for shape, act in (
            ((4,), nn.Identity),
            ((4, 2), nn.Sigmoid),
            ((4, 2, 3), nn.Identity),
        )
    },
    "linear, classes on axis 1 of 5": (
        lambda: fed(3, 4, 2, 3, 5)(dense(5, 3, 2)),
        CROSS,
        1,
    ),
    **{
        f"cnn, {act.__name__}{'' if bias else ', no bias'}": (
            lambda act=act, bias=bias: before_frozen(
                (3, 3, 7, 7), nn.Conv2d(3, 2, 2, bias=bias), act()
            ),
        )
        for act in (
            *(nn.ReLU, nn.Sigmoid, nn.Tanh, nn.LeakyReLU),
            *(nn.LogSigmoid, nn.ELU, nn.SELU),
        )
        for bias in (True, False)
    },
    **{
        name: (
            lambda kind=kind, shape=shape, given=given: before_frozen(
                (3, *shape), kind(*given), nn.ReLU()
            ),
        )
        for name, kind, shape, given in convolutions()
    },
    **{
        name: (
            lambda shape=shape, kind=kind, pool=pool: before_frozen(
                (3, *shape), kind(3, 2, 2), nn.ReLU(), pool
            ),
        )
        for name, shape, kind, pool in pools()
    },
    **{
        f"one position, {kind.__name__}": (
            lambda kind=kind, act=act, d=d, shape=shape: fed(1, 2, *shape)(
                single(kind, act, d, shape)
            ),
            SQUARES,
        )
        for kind, act, d, shape in (
            (nn.Conv1d, nn.ReLU, 1, (4,)),
            (nn.Conv2d, nn.ReLU, 2, (3, 3)),
            (nn.Conv3d, nn.ReLU, 3, (3, 3, 3)),
            (nn.ConvTranspose1d, nn.Sigmoid, 1, (9,)),
            (nn.ConvTranspose2d, nn.Sigmoid, 2, (4, 4)),
            (nn.ConvTranspose3d, nn.Sigmoid, 3, (6, 6, 6)),
        )
    },
    "batch norm 1d, classes on axis 1": (
        lambda: fed(2, 3, 4)(nn.BatchNorm1d(3)),
        CROSS,
        1,
    ),
    "batch norm 2d, classes on axis 1": (
        lambda: fed(3, 2, 4, 3)(nn.BatchNorm2d(2)),
        CROSS,
        1,
    ),
    "batch norm 3d, classes on axis 1": (
        lambda: fed(3, 3, 4, 1, 2)(BN3(3)),
        CROSS,
        1,
    ),
    "three batch norms, classes on axis 1": (
        lambda: normed_images(BN3(3), nn.Linear(2, 3), BN3(3), nn.ReLU(), BN3(3)),
        CROSS,
        1,
    ),
    "batch norm 1d": (
        lambda: fed(2, 3, 4)(chain(nn.BatchNorm1d(3), nn.Flatten())),
        SQUARES,
    ),
    "batch norm 2d": (
        lambda: fed(3, 2, 4, 3)(chain(nn.BatchNorm2d(2), nn.Flatten())),
        SQUARES,
    ),
    "batch norm 3d": (lambda: normed_images(BN3(3), nn.Flatten()), SQUARES),
    "three batch norms": (
        lambda: normed_images(
            *(BN3(3), nn.Linear(2, 3), BN3(3), nn.ReLU(), BN3(3), nn.Flatten())
        ),
        SQUARES,
    ),
    "rnn, classes on axis 1": (
        lambda: fed(8, 5, 6)(
            chain(First(nn.RNN(6, 3, batch_first=True)), Moved(0, 2, 1))
        ),
        CROSS,
        1,
    ),
    "rnn, flat": (
        lambda: fed(8, 5, 6)(
            chain(First(nn.RNN(6, 3, batch_first=True)), Moved(0, 2, 1), nn.Flatten())
        ),
        SQUARES,
    ),
    "rnn, linear, classes on axis 1": (
        lambda: fed(8, 5, 6)(
            chain(
                First(nn.RNN(6, 3, batch_first=True)),
                *(nn.Linear(3, 3), Moved(0, 2, 1)),
            )
        ),
        CROSS,
        1,
    ),
    "lstm, flat": (
        lambda: fed(4, 5, 3)(
            chain(First(nn.LSTM(3, 4, batch_first=True)), nn.Flatten())
        ),
    ),
    "lstm of three steps, flat": (
        lambda: fed(4, 3, 5)(
            chain(First(nn.LSTM(5, 4, batch_first=True)), nn.Flatten())
        ),
    ),
    "embedding, linear": (
        lambda: (chain(nn.Embedding(5, 3), nn.Linear(3, 4)), torch.randint(0, 5, (6,))),
    ),
    "embedding 3-5, flat": (
        lambda: (
            chain(nn.Embedding(3, 5), nn.Flatten()),
            torch.randint(0, 3, (4, 2, 2)),
        ),
    ),
    "embedding 3-2, flat": (
        lambda: (
            chain(nn.Embedding(3, 2), nn.Flatten()),
            torch.randint(0, 3, (3, 2, 2)),
        ),
    ),
    **{
        f"linear, adaptive pool {d}d": (
            lambda d=d, shape=shape, out=out: fed(2, 2, *shape)(
                chain(
                    nn.Linear(shape[-1], shape[-1]),
                    getattr(nn, f"AdaptiveAvgPool{d}d")(out),
                    nn.Flatten(),
                )
            ),
            SQUARES,
        )
        for d, shape, out in (
            (1, (9,), (3,)),
            (2, (6, 8), (3, 4)),
            (3, (9, 5, 4), (3, 5, 2)),
        )
    },
    "padding, conv": (
        lambda: fed(5, 3, 4, 4)(
            chain(
                *(nn.Conv2d(3, 2, 2), nn.ConstantPad2d((1, 1, 0, 2), 0.0)),
                *(nn.Conv2d(2, 2, 3, 2), nn.Flatten(), nn.Linear(8, 2)),
            )
        ),
        SQUARES,
    ),
    "padding of channels": (
        lambda: fed(5, 3, 4, 4)(
            chain(
                *(conv(3, 2), nn.ReLU(), nn.ConstantPad3d((1, 1, 2, 0, 1, 2), 1.0)),
                *(nn.Conv2d(5, 2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)),
            )
        ),
    ),
    "a part of an image": (
        lambda: fed(3, 3, 4, 5)(
            chain(
                nn.Conv2d(3, 2, 2, padding=1),
                Part(ALL, 0, slice(None, None, 2), slice(0, 2)),
                *(nn.ReLU(), nn.Flatten(), nn.Linear(6, 4)),
            )
        ),
    ),
    "parts of an image": (
        lambda: fed(3, 3, 4, 5)(
            chain(
                *(nn.Conv2d(3, 2, 2, padding=1), Part(ALL, ALL, 2), nn.ReLU()),
                *(Part(ALL, 1), nn.Linear(6, 4)),
            )
        ),
        SQUARES,
    ),
    "branches, linear": (
        lambda: fed(3, 10)(
            chain(
                *(nn.Linear(10, 5), nn.ReLU()),
                *(Beside(nn.Identity(), nn.Linear(5, 5)), nn.Sigmoid()),
                nn.Linear(5, 4),
            )
        ),
    ),
    "branches, scaled, one sample": (
        lambda: fed(1, 10)(
            chain(
                *(nn.Linear(10, 5), nn.ReLU()),
                Graph(lambda own, x: 3.0 * x + own.a(x), a=nn.Linear(5, 5)),
                *(nn.Sigmoid(), nn.Linear(5, 4)),
            )
        ),
    ),
    "branches, conv": (
        lambda: fed(4, 2, 6, 6)(
            branches(
                *(conv(2, 3), nn.ReLU()),
                middle=chain(conv(3, 5), nn.ReLU(), conv(5, 3)),
                last=nn.Linear(12, 5),
            )
        ),
    ),
    "branches in branches": (
        lambda: fed(4, 3, 6, 6)(
            branches(
                *(conv(3, 2), nn.ReLU()),
                middle=chain(
                    *(conv(2, 4), nn.Sigmoid(), conv(4, 2)),
                    Beside(nn.Identity(), chain(conv(2, 4), nn.ReLU(), conv(4, 2))),
                ),
                last=nn.Linear(8, 5),
            )
        ),
    ),
    "an Euler step": (lambda: fed(1, 2)(euler_step()), SQUARES),
    "a small residual network": (lambda: fed(2, 3, 7, 7)(residual_net()), SQUARES),
    "in place": (
        lambda: fed(3, 3)(
            chain(nn.Linear(3, 2), nn.ReLU(inplace=True), nn.Linear(2, 2))
        ),
        SQUARES,
    ),
    "one relu, three times": (lambda: fed(3, 3)(several_times()), SQUARES),
    "flat twice": (
        lambda: fed(3, 2, 2, 4)(
            chain(nn.Linear(4, 3), nn.Flatten(2), nn.Linear(6, 3), nn.Flatten())
        ),
        SQUARES,
    ),
    "factors": (
        lambda: fed(2, 4)(
            Graph(
                lambda own, x: (0.5 * own.a(x * 2.5)).multiply(3.1415),
                a=nn.Linear(4, 3),
            )
        ),
        SQUARES,
    ),
    "sums": (lambda: fed(3, 3)(added()), SQUARES),
    "axes moved": (
        lambda: fed(3, 5, 3)(
            chain(nn.Linear(3, 2), Moved(0, 2, 1), nn.Linear(5, 2), Moved(0, 2, 1))
        ),
        CROSS,
        1,
    ),
    "axes moved, 5-3": (
        lambda: fed(3, 5, 3)(
            chain(nn.Linear(3, 2), Moved(0, 2, 1), nn.Linear(5, 3), Moved(0, 2, 1))
        ),
        CROSS,
        1,
    ),
    "characters, lstm": (lambda: characters(nn.LSTM), CROSS, 1),
    "characters, rnn": (lambda: characters(nn.RNN), CROSS, 1),
    **{
        f"linear 7-3, {act.__name__}": (
            lambda act=act: fed(5, 7)(chain(nn.Linear(7, 3), act(), nn.Flatten())),
        )
        for act in (nn.Identity, nn.ReLU, nn.Sigmoid, nn.Tanh)
    },
    **{
        f"mlp 7-3-3, {act.__name__}": (
            lambda act=act: fed(5, 7)(dense(7, 3, 3, kind=act)),
        )
        for act in (nn.ReLU, nn.Sigmoid, nn.Tanh)
    },
    **{
        f"mlp 7-3-1, {act.__name__}": (
            lambda act=act: fed(5, 7)(dense(7, 3, 1, kind=act)),
            SQUARES,
        )
        for act in (nn.Sigmoid, nn.Tanh)
    },
    "linear, batch norm": (
        lambda: fed(5, 7)(chain(nn.Linear(7, 3), nn.BatchNorm1d(3))),
    ),
    "linear, batch norm, linear": (
        lambda: fed(5, 7)(chain(nn.Linear(7, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))),
        SQUARES,
    ),
    "two linear, batch norm": (
        lambda: fed(5, 7)(chain(dense(7, 3, 3, kind=None), nn.BatchNorm1d(3))),
    ),
    **{
        f"conv {KERNEL[0]} x {KERNEL[1]}, {act.__name__}": (
            lambda act=act: fed(3, 3, 4, 5)(chain(activated(act), nn.Flatten())),
        )
        for act in (nn.ReLU, nn.Sigmoid, nn.Tanh)
    },
    **{
        f"two conv {KERNEL[0]} x {KERNEL[1]}, {act.__name__}": (
            lambda act=act: fed(3, 3, 4, 5)(
                chain(activated(act), activated(act), nn.Flatten())
            ),
        )
        for act in (nn.ReLU, nn.Sigmoid, nn.Tanh)
    },
    **{
        f"conv, {pool.__name__}": (
            lambda pool=pool: fed(5, 3, 4, 5)(
                chain(nn.Conv2d(3, 3, KERNEL, padding=1), pool(2), nn.Flatten())
            ),
        )
        for pool in (nn.MaxPool2d, nn.AvgPool2d)
    },
    **{
        f"conv, {pool.__name__}, twice": (
            lambda pool=pool: fed(5, 3, 4, 5)(
                chain(
                    *(nn.Conv2d(3, 3, KERNEL, padding=1), pool(2)),
                    *(nn.Conv2d(3, 3, KERNEL, padding=1), pool(2), nn.Flatten()),
                )
            ),
        )
        for pool in (nn.MaxPool2d, nn.AvgPool2d)
    },
    "zero padding, conv, twice": (
        lambda: fed(5, 3, 4, 5)(
            chain(
                *(nn.ZeroPad2d((1, 0, 1, 1)), nn.Conv2d(3, 3, KERNEL)),
                *(nn.ZeroPad2d((1, 0, 1, 1)), nn.Conv2d(3, 3, KERNEL), nn.Flatten()),
            )
        ),
    ),
    "conv, linear": (
        lambda: fed(2, 3, 4, 4)(
            chain(nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(18, 5))
        ),
    ),
    "mlp 5-10-2": (lambda: fed(3, 5)(dense(5, 10, 2)),),
    **{
        f"conv 6 x 6, stride {s}, padding {p}, dilation {d}": (
            lambda s=s, p=p, d=d: fed(4, 4, 6, 6)(
                chain(nn.Conv2d(4, 6, 3, s, p, d), Sum(2, 3))
            ),
        )
        for s in (1, 3)
        for p in (0, 2)
        for d in (1, 2)
    },
    "wide_resnet50_2": (
        lambda: (vision().wide_resnet50_2(num_classes=3), torch.rand(2, 3, 7, 7)),
        SQUARES,
        -1,
        ("bn1", "layer1.0.conv1", "fc"),
        True,
    ),
    "resnet18": (
        lambda: (vision().resnet18(num_classes=3), torch.rand(2, 3, 7, 7)),
        SQUARES,
        -1,
        ("bn1", "layer1.0.conv1", "fc"),
        True,
    ),
}
