"""Networks in plain arrays against loops, and the errors of bad ones."""

import array_api_strict
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refspec
from refspec import backend, models, rounding
from refspec.models import activations, evaluation, operations
from refspec.models.network import weight_matrices

U = 2.0**-53
FUNCTIONS = {
    "clip": lambda z: min(max(z, mpmath.mpf(-1)), mpmath.mpf(1)),
    "elu": lambda z: z if z > 0 else mpmath.expm1(z),
    "hard_sigmoid": lambda z: min(max(z + 3, mpmath.mpf(0)), mpmath.mpf(6)) / 6,
    "hard_swish": lambda z: z * min(max(z + 3, mpmath.mpf(0)), mpmath.mpf(6)) / 6,
    "leaky_relu": lambda z: z if z > 0 else mpmath.mpf(0.01) * z,
    "log_sigmoid": lambda z: -mpmath.log1p(mpmath.exp(-z)),
    "gelu": lambda z: z * mpmath.ncdf(z),
    "gelu_tanh": lambda z: (
        z * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + G3 * z**3))) / 2
    ),
    "identity": lambda z: z,
    "relu": lambda z: z if z > 0 else mpmath.mpf(0),
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "tanh": mpmath.tanh,
}
G3 = mpmath.mpf("0.044715")


def perturbed(network, rng):
    """Biases are zero in a new network: move every parameter."""
    theta = models.flatten(network)
    return models.unflatten(network, theta + 0.3 * rng.normal(size=theta.shape))


def in_strict(network):
    parameters = {k: array_api_strict.asarray(v) for k, v in network.parameters.items()}
    return models.Network(network.operations, parameters)


@pytest.mark.parametrize("name", sorted(operations.ACTIVATIONS))
def test_an_activation_and_its_derivatives_are_exact(name):
    z = np.concatenate([np.linspace(-40, 40, 81) + 0.123, [-800.0, -1e-9, 1e-9, 800]])
    computed = operations.ACTIVATIONS[name](z, np)
    bound = rounding.gamma(64, U)
    with mpmath.workdps(60):
        for order, values in enumerate(computed):
            for point, value in zip(z, values, strict=True):
                exact = mpmath.diff(FUNCTIONS[name], mpmath.mpf(float(point)), order)
                size = 1 + abs(point) if order == 0 else 2
                assert abs(float(value - exact)) <= bound * size, (point, order)
    mutant = computed[1] * (1 + 4 * bound)  # a slope off by a few hundred roundings
    assert np.max(np.abs(mutant - computed[1])) > bound * np.max(np.abs(computed[1]))


def test_relu_has_no_slope_at_its_kink():
    z = np.array([-1.0, 0.0, 1.0])
    for found, exact in zip(
        activations.activate({"op": "relu"}, z, np),
        ([0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]),
        strict=True,
    ):
        assert np.abs(found).tolist() == exact


def test_the_windows_adjoint_is_the_adjoint():
    rng = np.random.default_rng(0)
    network = models.cnn(
        (2, 7, 6), [3], 2, rng=rng, stride=2, padding=1, pool=1, kernel=3
    )
    X = rng.normal(size=(4, 2, 7, 6))
    steps, _ = evaluation.forward(network, X)
    window = {"kernel": [3, 2], "stride": [1, 2]}
    dilated = {"op": "conv2d", "name": "d", "weight": "d", "dilation": [2, 1]}
    others = [
        {"op": "avg_pool2d"} | window,
        {"op": "avg_pool2d", "padding": [1, 0]} | window,
        {"op": "max_pool2d", "padding": [1, 1], "dilation": [2, 1]} | window,
        {"op": "flatten_channels_last"},
        dilated | {"stride": [2, 1], "padding": [1, 0]},
    ]
    weights = {"d": rng.normal(size=(3, 2, 3, 2))}
    made = [operations.record(x, weights, X, (0,), np)[0] for x in others]
    for step in [*steps, *made]:
        x = rng.normal(size=(4, 2, *step.shape))
        y = operations.push(step, x, np)
        g = rng.normal(size=y.shape)
        back = operations.pull(step, g, np)
        size = np.sum(np.abs(x)) * np.max(np.abs(g))
        if step.matrix is not None:  # each pixel in 9 windows at most
            size = size * 9 * np.sum(np.abs(step.matrix))
        bound = rounding.gamma(2 * x.size + 2 * y.size, U) * size
        assert abs(np.sum(y * g) - np.sum(x * back)) <= bound
        if step.kind != "tanh":
            assert abs(np.sum(y * g) - np.sum(x * back[:, ::-1])) > bound


def loops(network, x):
    """Logits of one sample, by loops over positions."""
    for operation in network.operations:
        kind = operation["op"]
        if kind in ("linear", "conv2d"):
            W = network.parameters[operation["weight"]]
            b = network.parameters.get(operation["bias"] or "", np.zeros(W.shape[0]))
        if kind == "linear":
            x = np.asarray([sum(W[i] * x) + b[i] for i in range(W.shape[0])])
        elif kind == "conv2d":
            (p, q), (s, t) = operation["padding"], operation["stride"]
            x = np.pad(x, ((0, 0), (p, p), (q, q)))
            kh, kw = W.shape[2:]
            rows = range(0, x.shape[1] - kh + 1, s)
            columns = range(0, x.shape[2] - kw + 1, t)
            x = np.asarray(
                [
                    [
                        [
                            np.sum(W[o] * x[:, i : i + kh, j : j + kw]) + b[o]
                            for j in columns
                        ]
                        for i in rows
                    ]
                    for o in range(W.shape[0])
                ]
            )
        elif kind == "avg_pool2d":
            (kh, kw), (s, t) = operation["kernel"], operation["stride"]
            rows = range(0, x.shape[1] - kh + 1, s)
            columns = range(0, x.shape[2] - kw + 1, t)
            x = np.asarray(
                [
                    [
                        [np.mean(c[i : i + kh, j : j + kw]) for j in columns]
                        for i in rows
                    ]
                    for c in x
                ]
            )
        elif kind == "flatten":
            x = x.ravel()
        else:
            x = operations.ACTIVATIONS[kind](x, np)[0]
    return x


def any_network(rng):
    shape, a = (2, 6, 5), "tanh"
    weights = {
        "c": rng.normal(size=(3, 2, 3, 2)),
        "d": rng.normal(size=3),
        "W": rng.normal(size=(4, 3 * 2 * 2)),
        "V": rng.normal(size=(3, 4)),
        "v": rng.normal(size=3),
    }
    chain = [
        {"op": "conv2d", "name": "conv", "weight": "c", "bias": "d"}
        | {"stride": [2, 1], "padding": [1, 0]},
        {"op": a},
        {"op": "avg_pool2d", "kernel": [2, 2], "stride": [1, 2]},
        {"op": "flatten"},
        {"op": "linear", "name": "fc", "weight": "W", "bias": None},
        {"op": "softplus"},
        {"op": "linear", "name": "out", "weight": "V", "bias": "v"},
    ]
    return models.Network(chain, weights), rng.normal(size=(5, *shape))


def magnitude(network, X):
    """A bound on any intermediate, through the gains of the layers."""
    size = 1.0
    for W in network.parameters.values():
        size = (1 + size) * (1 + np.sum(np.abs(W))) * (1 + np.max(np.abs(X)))
    return size


def test_logits_are_those_of_loops():
    network, X = any_network(np.random.default_rng(1))
    values = models.logits(network, X)
    size = magnitude(network, X)
    expected = np.asarray([loops(network, x) for x in X])
    bound = rounding.gamma(500, U) * size
    assert np.max(np.abs(values - expected)) <= bound
    assert np.max(np.abs(values[:, ::-1] - expected)) > bound


def test_gradients_are_errors_times_features_of_the_snapshot():
    rng = np.random.default_rng(2)
    network, X = any_network(rng)
    labels = np.asarray([0, 1, 2, 1, 0])
    seen = models.snapshot(network, X, labels)
    order = np.argsort(labels, kind="stable")
    G = models.gradients(network, X, labels)[order]
    assert [x.name for x in seen.layers] == ["conv", "fc", "out"]
    assert seen.layers[0].features.shape == (5, 12, 13)
    pieces = []
    for layer in seen.layers:
        own = layer.errors[np.arange(5), seen.labels]  # (N, T, b)
        pieces.append((np.swapaxes(own, 1, 2) @ layer.features).reshape(5, -1))
    # products of other shapes sum in another order
    bound = rounding.gamma(500, U) * magnitude(network, X)
    assert np.max(np.abs(np.concatenate(pieces, axis=1) - G)) <= bound
    assert np.max(np.abs(np.concatenate(pieces, axis=1) - G[::-1])) > bound
    again = models.logits(models.from_section(seen.model), seen.model.inputs)
    assert np.array_equal(again, models.logits(network, X[order]))
    # score identity: the p-weighted errors of every sample cancel
    for layer in seen.layers:
        left = np.sum(seen.probabilities[:, :, None, None] * layer.errors, axis=1)
        size = np.sum(np.abs(layer.errors))
        assert np.max(np.abs(left)) <= rounding.gamma(500, U) * size


def test_the_gradient_is_that_of_the_loss():
    """Along a line the loss differs from its linear part by its curvature only."""
    rng = np.random.default_rng(3)
    network, X = any_network(rng)
    labels, w = np.asarray([2, 1, 0, 1, 1]), rng.uniform(size=5)
    theta = models.flatten(network)
    value, gradient = models.loss_and_gradient(network, X, labels, sample_weights=w)
    whole = w @ models.gradients(network, X, labels)
    assert np.max(np.abs(whole - gradient)) <= rounding.gamma(600, U) * np.sum(
        np.abs(models.gradients(network, X, labels))
    )
    direction = rng.normal(size=theta.size) / theta.size
    gaps = []
    for h in (2.0**-10, 2.0**-11, 2.0**-12):
        ends = [
            models.loss(
                models.unflatten(network, theta + s * h * direction),
                X,
                labels,
                sample_weights=w,
            )
            for s in (1, -1)
        ]
        gaps.append(abs((ends[0] - ends[1]) / (2 * h) - gradient @ direction))
    noise = rounding.gamma(600, U) * value * 2**12
    assert gaps[1] <= gaps[0] / 3 + noise  # second order: a quarter each time
    assert gaps[2] <= gaps[1] / 3 + noise


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_flatten_and_unflatten_are_inverse(seed, hidden):
    rng = np.random.default_rng(seed)
    network = models.mlp([2, *hidden, 3], "relu", rng=rng)
    P = sum(b * a for b, a in models.layer_shapes(network).values())
    theta = rng.normal(size=P)
    assert np.array_equal(models.flatten(models.unflatten(network, theta)), theta)
    for step in range(P):  # the gradient is in the same order
        e = np.eye(P)[step]
        moved = models.unflatten(network, theta + e)
        changed = [
            k
            for k, v in moved.parameters.items()
            if not np.array_equal(v, models.unflatten(network, theta).parameters[k])
        ]
        assert len(changed) == 1


@pytest.mark.parametrize("kind", ["read-only", "strict", "float32"])
def test_other_namespaces_and_dtypes(kind):
    rng = np.random.default_rng(4)
    network, X = any_network(rng)
    labels = np.asarray([0, 1, 2, 1, 0])
    expected = models.snapshot(network, X, labels)
    if kind == "read-only":
        for x in (X, labels, *network.parameters.values()):
            x.setflags(write=False)
    elif kind == "strict":
        network, X = in_strict(network), array_api_strict.asarray(X)
        labels = array_api_strict.asarray(labels)
    else:
        parameters = {k: v.astype(np.float32) for k, v in network.parameters.items()}
        network, X = models.Network(network.operations, parameters), np.float32(X)
    seen = models.snapshot(network, X, labels)
    u = rounding.unit_roundoff(X)
    for layer, other in zip(seen.layers, expected.layers, strict=True):
        for x, y in ((layer.features, other.features), (layer.errors, other.errors)):
            assert x.dtype == X.dtype
            size = np.prod([1 + np.sum(np.abs(v)) for v in expected_sizes(network)])
            gap = np.max(np.abs(backend.to_host(x) - y))
            assert gap <= rounding.gamma(500, u) * size
    assert models.gradients(network, X, labels).shape[0] == 5


def expected_sizes(network):
    return [backend.to_host(v) for k, v in network.parameters.items() if k != "W"]


LINEAR = {"op": "linear", "name": "fc", "weight": "W", "bias": "b"}
PARAMETERS = {"W": np.ones((3, 2)), "b": np.ones(3), "V": np.ones((2, 4))}
CONV = {"op": "conv2d", "name": "c", "weight": "K", "bias": None}
KERNEL = {"K": np.ones((2, 1, 3, 3))}
FULL = CONV | {"stride": [1, 1], "padding": [0, 0]}


@pytest.mark.parametrize(
    ("chain", "parameters", "message"),
    [
        ([LINEAR, {"op": "swish"}], PARAMETERS, "got 'swish'"),
        ([{"op": "tanh"}], PARAMETERS, r"got \[\]"),
        ([LINEAR, LINEAR], PARAMETERS, r"got \['fc', 'fc'\]"),
        ([LINEAR | {"name": ""}], PARAMETERS, r"got \[''\]"),
        ([LINEAR | {"weight": "U"}], PARAMETERS, "must name its weight, got 'U'"),
        ([LINEAR | {"bias": "u"}], PARAMETERS, "must name its bias, got 'u'"),
        ([LINEAR | {"bias": "W"}], PARAMETERS, r"got \(3, 2\)"),
        ([LINEAR], PARAMETERS | {"b": np.ones(2)}, r"\(b,\) = \(3,\), got \(2,\)"),
        ([LINEAR], PARAMETERS | {"b": np.ones(3, int)}, "got int64"),
        ([LINEAR], PARAMETERS | {"b": np.full(3, np.nan)}, "got 3 of 3"),
        (
            [LINEAR, {"op": "relu"}, LINEAR | {"name": "o", "weight": "V"}],
            PARAMETERS | {"b": np.ones(3)},
            r"\(b,\) = \(2,\), got",
        ),
        (
            [LINEAR, LINEAR | {"name": "o", "weight": "V", "bias": None}],
            PARAMETERS,
            "got 4; the weights do not chain",
        ),
        ([CONV], KERNEL, "stride of operation 0 .* got None"),
        ([FULL | {"padding": [-1, 0]}], KERNEL, r"got \[-1, 0\]"),
        ([FULL | {"stride": [0, 1]}], KERNEL, r"got \[0, 1\]"),
        ([FULL, LINEAR], KERNEL | PARAMETERS, "got image ones"),
        ([LINEAR, FULL], KERNEL | PARAMETERS, "got flat ones"),
        ([FULL, FULL | {"name": "d"}], KERNEL, "got 1; the weights do not chain"),
        (
            [FULL, {"op": "flatten"}, LINEAR | {"weight": "Z", "bias": None}],
            KERNEL | {"Z": np.ones((2, 3))},
            "a multiple of 2 inputs",
        ),
    ],
)
def test_networks_that_are_none(chain, parameters, message):
    with pytest.raises(ValueError, match=message):
        models.Network(chain, parameters)


def test_a_norm_may_come_first():
    """Its channels are known then, not whether they have space: flatten may follow."""
    kept = {"mean": "mean", "variance": "variance", "epsilon": 1e-5}
    linear = {"op": "linear", "name": "fc", "weight": "W", "bias": None}
    chain = [{"op": "batch_norm", **kept}, {"op": "flatten"}, linear]
    arrays = {"mean": np.zeros(3), "variance": np.ones(3), "W": np.ones((2, 12))}
    z = models.logits(models.Network(chain, arrays), np.ones((5, 3, 2, 2)))
    assert np.all(z == z[0, 0])
    with pytest.raises(ValueError, match="multiple of 3 inputs"):
        models.Network(chain, arrays | {"W": np.ones((2, 11))})


def test_inputs_and_labels_that_do_not_fit():
    network = models.mlp([2, 3], rng=np.random.default_rng(0))
    image = models.cnn((1, 4, 4), [2], 2, rng=np.random.default_rng(0))
    X = np.ones((2, 2))
    for bad, message in (
        (np.ones((2, 3)), r"\(a,\) = \(2,\), got \(3,\)"),
        (np.ones((0, 2)), "got \\(0, 2\\)"),
        (np.ones(2), "got \\(2,\\)"),
        (np.full((1, 2), np.inf), "got 2 of 2"),
        (np.ones((1, 2), np.float32), "got float32"),
    ):
        with pytest.raises(ValueError, match=message):
            models.logits(network, bad)
    with pytest.raises(ValueError, match=r"1 channels .* got \(2, 4, 4\)"):
        models.logits(image, np.ones((1, 2, 4, 4)))
    with pytest.raises(ValueError, match=r"got \(1, 0, 0\)|got \(1, 1, 1\)"):
        models.logits(
            models.Network(
                [CONV | {"stride": [1, 1], "padding": [0, 0]}, {"op": "flatten"}],
                KERNEL,
            ),
            np.ones((1, 1, 1, 1)),
        )
    with pytest.raises(ValueError, match="end in logits"):
        models.logits(models.Network([FULL], KERNEL), np.ones((1, 1, 4, 4)))
    for labels, message in (
        ([0, 3], r"0\.\.C-1 = 0\.\.2, got values 0\.\.3"),
        ([-1, 0], r"got values -1\.\.0"),
        ([0], "got int64 of shape"),
        ([0.0, 1.0], "got float64"),
    ):
        with pytest.raises(ValueError, match=message):
            models.loss(network, X, labels)
    assert models.snapshot(network, X, [0, 1]).offsets == (0, 1, 2, 2)
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        models.loss(network, X, [0, 1], sample_weights=np.ones(3))
    with pytest.raises(ValueError, match="smallest value of -1"):
        models.loss(network, X, [0, 1], sample_weights=-np.ones(2))
    with pytest.raises(TypeError, match="mixture"):
        models.logits(network, array_api_strict.asarray(X))
    with pytest.raises(ValueError, match=r"\(P,\) = \(9,\), got \(8,\)"):
        models.unflatten(network, np.ones(8))
    with pytest.raises(ValueError, match="got 2 dims and 1 activations"):
        models.mlp([2, 3], ["tanh"], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="stage 3 must leave"):
        models.cnn((1, 4, 4), [1, 1, 1], 2, rng=np.random.default_rng(0))


def test_the_softmax_seed_keeps_small_probabilities():
    p = np.asarray([[1.0, 1e-300, 1e-20]])
    hot = np.asarray([[1.0, 0.0, 0.0]])
    assert evaluation.misses(p, hot, np).tolist() == [[-1e-20, 1e-300, 1e-20]]
    assert (p - hot)[0, 0] == 0.0  # the naive difference loses the entry


def test_one_snapshot_for_all_of_refspec():
    network = models.mlp([2, 3, 2], rng=np.random.default_rng(0))
    seen = models.snapshot(network, np.ones((2, 2)), [1, 0], provenance={"of": "me"})
    assert isinstance(seen, refspec.Snapshot)
    assert seen.provenance["of"] == "me"


def test_weight_matrices_are_those_of_the_parameter_vector(asarray):
    """With a bias as the last column, or without; of operations unknown here too."""
    network = models.cnn((1, 6, 6), [2], 3, rng=np.random.default_rng(1))
    steps = [*network.operations, {"op": "attention", "name": "x", "weight": None}]
    parameters = {k: asarray(v) for k, v in network.parameters.items()}
    section = refspec.ModelSection(asarray(np.zeros((1, 1, 6, 6))), steps, parameters)
    found = weight_matrices(section)
    shapes = models.layer_shapes(network)
    assert {k: tuple(v.shape) for k, v in found.items()} == shapes
    flat = [np.ravel(backend.to_host(x)) for x in found.values()]
    assert np.array_equal(np.concatenate(flat), models.flatten(network))
    for name, x in weight_matrices(section, biases=False).items():
        b, a = shapes[name]
        assert tuple(x.shape) == (b, a - 1)
        whole = backend.to_host(found[name])
        assert np.array_equal(backend.to_host(x), whole[:, :-1])
    assert weight_matrices(None) == {}
