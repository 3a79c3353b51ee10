"""The networks of curvlinops 3.0, built anew, in its sizes.

Of test/cases.py, kfac_cases.py, utils.py, test_kfac.py, test_compile.py,
test__checks.py and test/computers.
"""

from collections import UserDict

import torch
from torch import nn
from torch.nn import functional

from support.building_networks import (
    CROSS,
    SOFT,
    SQUARES,
    Graph,
    chain,
    classes_first,
    dense,
    fed,
    frozen,
    mean_over_positions,
    own,
    positions_first,
    then,
)


def by_key(model, key=dict):
    """A model that takes a mapping, and the mapping."""
    body = Graph(lambda own, data: own.net(data["x"]), net=model)
    return body, key(x=torch.rand(7, 10))


def split(first, second):
    """Halves of the inputs, each through a layer, side by side."""
    run = lambda own, x: torch.cat([own.a(x[:, :3]), own.b(x[:, 3:])], 1)  # noqa: E731
    return Graph(run, a=first, b=second)


def split_tied(*biases):
    first, second = (nn.Linear(3, 3, bias=x) for x in biases)
    second.weight = first.weight
    return split(first, second)


def split_same(bias):
    one = nn.Linear(3, 3, bias=bias)
    return split(one, one)


def functional_twice(own, x):
    x = functional.linear(x, own.w, own.b)
    return functional.linear(x, own.w, getattr(own, "d", None))


def lenet():
    return chain(
        *(nn.Conv2d(1, 3, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(24, 10)),
    )


def up_and_down(after):
    return chain(
        nn.Conv2d(3, 2, 3, padding=1, stride=2),
        nn.Conv2d(2, 2, 3, padding=1),
        nn.Upsample(scale_factor=2, mode="nearest"),
        then(nn.Conv2d(2, 3, 3, padding=1), after),
    )


def pooled_cnn(inplace):
    return chain(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 4, stride=2, bias=False), nn.ReLU(inplace)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(frozen(nn.Linear(24, 10), "weight"), nn.ReLU(inplace), nn.Linear(10, 5)),
    )


def mlp_frozen(inplace):
    return chain(
        *(nn.Linear(5, 4), nn.ReLU(inplace), nn.Linear(4, 4, bias=False)),
        *(nn.ReLU(inplace), frozen(nn.Linear(4, 3), "weight")),
    )


SEVEN = fed(7, 10)
CURVLINOPS = {
    "mlp 10-5-3": (lambda: SEVEN(dense(10, 5, 3)),),
    "mlp 10-5-1": (lambda: SEVEN(dense(10, 5, 1)), SOFT),
    "mlp 10-5-2": (lambda: SEVEN(dense(10, 5, 2)), SOFT),
    "mlp 8-5-3": (lambda: fed(8, 8)(dense(8, 5, 3)), SQUARES),
    "mapping, mlp 10-5-3": (lambda: by_key(dense(10, 5, 3), UserDict),),
    "mapping, mlp 10-5-1": (lambda: by_key(dense(10, 5, 1), UserDict), SOFT),
    "mapping, mlp 10-5-2": (lambda: by_key(dense(10, 5, 2)), SQUARES),
    "mapping, deep linear": (lambda: by_key(dense(10, 5, 3, kind=None)), SQUARES),
    "mlp on tokens, classes on axis 1": (
        lambda: fed(7, 5, 10)(then(dense(10, 5, 3), classes_first)),
        CROSS,
        1,
    ),
    "mlp on tokens, two outputs": (lambda: fed(7, 5, 10)(dense(10, 5, 2)), SOFT),
    "mlp on tokens, three outputs": (lambda: fed(8, 5, 8)(dense(8, 5, 3)), SQUARES),
    "functional mlp": (
        lambda: SEVEN(
            Graph(
                lambda own, x: functional.linear(
                    functional.relu(functional.linear(x, own.w, own.b)), own.v, own.c
                ),
                **{"w": own(5, 10), "b": own(5), "v": own(3, 5), "c": own(3)},
            )
        ),
        SQUARES,
    ),
    "cnn 20 x 20": (lambda: fed(8, 1, 20, 20)(lenet()),),
    "dropout": (
        lambda: SEVEN(
            chain(nn.Linear(10, 5), nn.Dropout(), nn.ReLU(), nn.Linear(5, 2))
        ),
    ),
    "batch norm": (
        lambda: SEVEN(
            chain(nn.Linear(10, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
        ),
    ),
    "deep linear 6-3-1": (lambda: fed(7, 6)(dense(6, 3, 1, kind=None)), SQUARES),
    "deep linear 5-4-3": (lambda: fed(8, 5)(dense(5, 4, 3, kind=None)),),
    "deep linear 4-3-2": (lambda: fed(8, 4)(dense(4, 3, 2, kind=None)), SOFT),
    "one sample": (lambda: fed(1, 5)(dense(5, 4, 3, kind=None)),),
    "deep linear on two position axes, expand": (
        lambda: fed(3, 4, 8, 5)(dense(5, 4, 3, kind=None)),
        SQUARES,
    ),
    "deep linear on two position axes, reduce": (
        lambda: fed(8, 4, 8, 5)(then(dense(5, 4, 3, kind=None), mean_over_positions)),
        SQUARES,
    ),
    "conv2d, expand": (
        lambda: fed(2, 3, 8, 8)(then(nn.Conv2d(3, 2, 4, padding=2), positions_first)),
        SQUARES,
    ),
    "conv2d, expand, flat": (
        lambda: fed(2, 3, 8, 8)(
            chain(then(nn.Conv2d(3, 2, 4, padding=2), positions_first), nn.Flatten())
        ),
        SQUARES,
    ),
    "conv2d, reduce": (
        lambda: fed(8, 3, 8, 8)(
            chain(
                *(nn.Conv2d(3, 2, 4, padding=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            )
        ),
        SQUARES,
    ),
    "linear 6-1": (lambda: fed(8, 6)(nn.Linear(6, 1)), SQUARES),
    "linear 5-3": (lambda: fed(8, 5)(nn.Linear(5, 3)), SQUARES),
    "linear on two position axes, expand": (
        lambda: fed(3, 4, 8, 5)(nn.Linear(5, 3)),
        SQUARES,
    ),
    "linear on two position axes, reduce": (
        lambda: fed(8, 4, 8, 5)(then(nn.Linear(5, 3), mean_over_positions)),
        SQUARES,
    ),
    "a layer on both halves": (lambda: fed(7, 6)(split_same(False)), SQUARES),
    "a layer on both halves, bias": (lambda: fed(7, 6)(split_same(True)), SQUARES),
    "tied layers": (lambda: fed(7, 6)(split_tied(False, False)), SQUARES),
    "tied layers, one bias": (lambda: fed(7, 6)(split_tied(True, False)), SQUARES),
    "tied layers, two biases": (lambda: fed(7, 6)(split_tied(True, True)), SQUARES),
    "a weight twice": (
        lambda: fed(6, 3)(Graph(functional_twice, w=own(3, 3), b=own(3))),
        SQUARES,
    ),
    "a weight twice, two biases": (
        lambda: fed(6, 3)(Graph(functional_twice, w=own(3, 3), b=own(3), d=own(3))),
        SQUARES,
    ),
    "a bias made of the weight": (
        lambda: fed(6, 3)(
            Graph(lambda own, x: functional.linear(x, own.w, own.w.sum(1)), w=own(4, 3))
        ),
        SQUARES,
    ),
    "a product and a sum": (
        lambda: fed(6, 3)(
            Graph(lambda own, x: x @ own.w.T + own.b, w=own(4, 3), b=own(4))
        ),
        SQUARES,
    ),
    "a bias after a new shape": (
        lambda: fed(6, 6)(
            Graph(
                lambda own, x: (
                    functional.linear(x, own.w).reshape(len(x), 2, 2) + own.b
                ),
                **{"w": own(4, 6), "b": own(2)},
            )
        ),
        SQUARES,
    ),
    "one position": (
        lambda: fed(6, 3)(then(nn.Linear(3, 4), lambda x: x[:, None])),
        SQUARES,
    ),
    "unet, flat": (
        lambda: fed(2, 3, 8, 8)(
            up_and_down(lambda x: positions_first(x).reshape(-1, 3))
        ),
        CROSS,
    ),
    "unet, classes on axis 1": (
        lambda: fed(2, 3, 8, 8)(up_and_down(lambda x: x)),
        CROSS,
        1,
    ),
    "unet, positions first": (
        lambda: fed(2, 3, 8, 8)(up_and_down(positions_first)),
        SQUARES,
    ),
    "unet, one vector": (
        lambda: fed(2, 3, 8, 8)(up_and_down(lambda x: positions_first(x).flatten(1))),
        SQUARES,
    ),
    "mlp, a weight frozen": (lambda: fed(6, 5)(mlp_frozen(False)),),
    "mlp, a weight frozen, in place": (lambda: fed(6, 5)(mlp_frozen(True)),),
    "cnn, a weight frozen": (lambda: fed(5, 3, 8, 8)(pooled_cnn(False)),),
    "cnn, a weight frozen, in place": (lambda: fed(5, 3, 8, 8)(pooled_cnn(True)),),
    "flatten, linear": (
        lambda: fed(6, 2, 3)(chain(nn.Flatten(), nn.Linear(6, 3))),
        SQUARES,
    ),
    "two linear": (lambda: fed(6, 4)(dense(4, 3, 2, kind=None)), SQUARES),
    "cnn, no activation": (
        lambda: fed(6, 3, 6, 6)(
            chain(
                *(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)),
                *(nn.Flatten(), nn.Linear(180, 3)),
            )
        ),
    ),
    "a kernel of 3 x 2": (
        lambda: fed(6, 2, 6, 5)(
            then(
                nn.Conv2d(2, 3, (3, 2), stride=(2, 1), bias=False),
                lambda x: x.mean((2, 3)),
            )
        ),
        SQUARES,
    ),
    "mlp 4-3-2": (lambda: fed(6, 4)(dense(4, 3, 2)),),
}
