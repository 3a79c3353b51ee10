"""refspec.models and refspec.hessian: bad networks, inputs, labels and options."""

import numpy as np
import pytest

from refspec import Layer, hessian, models
from refspec import snapshot as make
from refspec.hessian import hessian_radius, hessian_vector_product
from support.clear import assert_clear

rng = np.random.default_rng(0)
NET = models.mlp([2, 3, 2], rng=rng)
X, Y = rng.standard_normal((4, 2)), [0, 1, 0, 1]
LINEAR = {"op": "linear", "name": "fc", "weight": "W", "bias": None}
PARAMETERS = len(models.flatten(NET))
BARE = make(
    [Layer("fc", np.ones((2, 1, 1)), np.ones((2, 2, 1, 1)))],
    [0, 1],
    logits=np.zeros((2, 2)),
)


def network(chain=(LINEAR,), **parameters):
    return models.Network(chain, parameters or {"W": np.ones((3, 2))})


def cnn(shape=(1, 8, 8), channels=(4,), classes=10, **options):
    return models.cnn(shape, channels, classes, **({"rng": rng} | options))


def of(f, *rest):
    """Yield bad networks, inputs and labels for a function that takes all three."""
    calls = {
        "network": [None, "mlp", {"W": 1}],
        "inputs": [X.tolist(), None, X[0], X[:0], X.astype(int), 1j * X, X * np.nan],
        "labels": [None, [0, 1], [0, 1, 0, 2], [0, -1, 0, 1], [0.0, 1.0, 0.0, 1.0]],
    }
    good = {"network": NET, "inputs": X, "labels": Y}
    for name, values in calls.items():
        for value in values:
            args = list((good | {name: value}).values())
            yield (lambda a=args: f(*a, *rest)), name
    yield (lambda: f(NET, X.astype(np.float32), Y, *rest)), "inputs"
    yield (lambda: f(NET, X[:, :1], Y, *rest)), "samples"


WEIGHTS = [
    [0.25] * 4,
    np.ones(3),
    -np.ones(4),
    np.full(4, np.nan),
    np.ones(4, dtype=int),
    1j * np.ones(4),
]
TABLE = [
    *of(models.loss),
    *of(models.loss_and_gradient),
    *of(models.gradients),
    *of(models.snapshot),
    *of(models.fit),
    *of(hessian.hessian),
    *of(hessian_radius),
    *of(hessian_vector_product, np.ones(PARAMETERS)),
    *(
        (lambda f=f, w=w: f(NET, X, Y, sample_weights=w), "sample_weights")
        for f in (models.loss, hessian.hessian, hessian_radius, models.fit)
        for w in WEIGHTS
    ),
    *(
        ((lambda v=v: hessian_vector_product(NET, X, Y, v)), "vectors")
        for v in (
            None,
            [1.0] * PARAMETERS,
            np.ones(3),
            np.ones((1, 1, PARAMETERS)),
            np.full(PARAMETERS, np.nan),
            1j * np.ones(PARAMETERS),
            np.ones(PARAMETERS, dtype=np.float32),
        )
    ),
    *(
        ((lambda f=f, x=x: f(NET, X, Y, **x)), next(iter(x)))
        for f in (
            hessian.hessian,
            lambda *a, **o: hessian_vector_product(*a, np.ones(PARAMETERS), **o),
        )
        for x in (
            {"part": "bend"},
            {"part": None},
            {"layers": "fc"},
            {"layers": []},
            {"layers": 3},
            {"layers": ["linear1", "linear1"]},
            {"layers": [None]},
        )
    ),
    *(
        ((lambda x=x: models.fit(NET, X, Y, **x)), next(iter(x)))
        for x in (
            {"method": "sgd"},
            {"method": None},
            {"weight_decay": -1.0},
            {"weight_decay": np.nan},
            {"weight_decay": "0"},
            {"steps": 0},
            {"steps": 2.9},
            {"steps": True},
            {"learning_rate": 0.0},
            {"learning_rate": np.inf},
            {"batch": 0, "method": "adam", "rng": rng},
            {"batch": 2.5, "method": "adam", "rng": rng},
            {"batch": 2, "method": "adam"},
            {"batch": 2, "rng": rng},
            {"rng": 0, "method": "adam", "batch": 2},
        )
    ),
    (lambda: models.softmax_regression(0, 3), "features"),
    (lambda: models.softmax_regression(2.9, 3), "features"),
    (lambda: models.softmax_regression(2, 1), "classes"),
    (lambda: models.softmax_regression(2, -3), "classes"),
    (lambda: models.mlp([2], rng=rng), "dims"),
    (lambda: models.mlp(2, rng=rng), "dims"),
    (lambda: models.mlp([2, 2.5], rng=rng), "dims"),
    (lambda: models.mlp([2, 0, 2], rng=rng), "dims"),
    (lambda: models.mlp([2, 3, 2], ["tanh", "tanh"], rng=rng), "activations"),
    (lambda: models.mlp([2, 3, 2], "swish", rng=rng), "activations"),
    (lambda: models.mlp([2, 3, 2], None, rng=rng), "activations"),
    (lambda: models.mlp([2, 2], rng=0), "rng"),
    (lambda: models.mlp([2, 2], rng=None), "rng"),
    (lambda: cnn(shape=(8, 8)), "shape"),
    (lambda: cnn(shape=(1, 8, 0)), "shape"),
    (lambda: cnn(shape=8), "shape"),
    (lambda: cnn(channels=[]), "channels"),
    (lambda: cnn(channels=[2.5]), "channels"),
    (lambda: cnn(channels=4), "channels"),
    (lambda: cnn(classes=1), "classes"),
    (lambda: cnn(kernel=0), "kernel"),
    (lambda: cnn(stride=0), "stride"),
    (lambda: cnn(stride=1.5), "stride"),
    (lambda: cnn(padding=-1), "padding"),
    (lambda: cnn(pool=0), "pool"),
    (lambda: cnn(activation="swish"), "activation"),
    (lambda: cnn(channels=[2] * 5), "stage"),
    (lambda: cnn(rng=0), "rng"),
    (lambda: network(chain=5), "operations"),
    (lambda: network(chain=[5]), "operation"),
    (lambda: network(chain=[]), "layers"),
    (lambda: network(chain=[{"op": "erf"}]), "operation"),
    (lambda: network(chain=[LINEAR, LINEAR]), "names"),
    (lambda: models.Network([LINEAR], []), "parameters"),
    (lambda: models.Network([LINEAR], {}), "weight"),
    (lambda: network(W=np.asarray(1.0)), "weight"),
    (lambda: network(W=np.ones(3)), "weight"),
    (lambda: network(W=np.full((3, 2), np.nan)), "parameter"),
    (lambda: network(W=1j * np.ones((3, 2))), "parameters"),
    (lambda: network(W=np.ones((3, 2), dtype=int)), "parameters"),
    (lambda: network(chain=[LINEAR | {"op": "conv2d", "stride": [0, 1]}]), "stride"),
    (lambda: models.flatten(None), "network"),
    (lambda: models.layer_shapes(X), "network"),
    (lambda: models.unflatten(NET, np.ones(3)), "vector"),
    (lambda: models.unflatten(NET, [1.0]), "vector"),
    (lambda: models.unflatten(NET, np.full(PARAMETERS, np.nan)), "parameter"),
    (lambda: models.unflatten(None, np.ones(3)), "network"),
    (lambda: models.from_section(None), "section"),
    (lambda: models.to_section(None, X), "network"),
    (lambda: models.logits(None, X), "network"),
    (lambda: models.logits(NET, X * np.inf), "inputs"),
    (lambda: models.all_errors(NET, None), "inputs"),
    (lambda: models.recompute(NET), "snapshot"),
    (lambda: models.recompute(BARE), "model section"),
    (lambda: models.snapshot(NET, X, Y, sample_weights=[0.25] * 4), "sample_weights"),
    (
        lambda: models.snapshot(NET, X, Y, sample_weights=9 * np.ones(4)),
        "sample_weights",
    ),
]


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_bad_calls_are_refused_in_a_sentence(row):
    call, names = TABLE[row]
    assert_clear(call, names=names)
