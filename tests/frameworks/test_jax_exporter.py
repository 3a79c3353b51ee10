"""The JAX exporter against jax's own per-sample gradients.

Errors and features of an export, multiplied out, must be the gradients that
``vmap(grad)`` gives for ``-log_softmax(logits)[c']`` by each leaf in float64. Plain
networks are bounded as in the PyTorch tests: the same network with absolute weights
and inputs and activations of slope 1 + A bounds how far one relative rounding of
anything can reach. Of the others the exporter must run the very function it was given:
its own arithmetic in float32 is compared with float64 by the same bound where the
network is a chain, and Flax's and Equinox's layers are compared by their leaves.
"""

import io
import sys

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from rich.console import Console

from refspec import export, models, rounding
from refspec.exporters import delivery as exporter
from refspec.exporters.jax import export as export_jax
from refspec.models.recompute import recompute

jax.config.update("jax_enable_x64", True)
LABELS = np.asarray([2, 0, 1, 0, 0, 2, 1, 0])  # unequal classes, not sorted
ORDER = np.argsort(LABELS, kind="stable")
N, C = len(LABELS), 3
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


def dense(W, x, act=jnp.tanh):
    return act(x @ W["a"]["w"] + W["a"]["b"]) @ W["z"]["w"] + W["z"]["b"]


def sequence(W, x, act=jnp.tanh):
    """Positions share weights; a product from the left; einsum; no bias."""
    x = act(x @ W["a"]["w"] + W["a"]["b"])
    x = act(jnp.einsum("ntd,dhk->nthk", x, W["h"]))
    x = jnp.swapaxes(W["left"] @ x.reshape(*x.shape[:2], -1).swapaxes(1, 2), 1, 2)
    return x.mean(axis=1) @ W["z"]["w"] + W["z"]["b"]


def images(W, x, act=jnp.tanh):
    """Channels last; strides, dilation, unequal padding; then a dense layer."""
    numbers = ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(
        x, W["c"], (2, 1), ((1, 0), (0, 2)), dimension_numbers=numbers
    )
    x = act(x + W["cb"])
    x = lax.conv_general_dilated(
        x, W["d"], (1, 1), "VALID", rhs_dilation=(1, 2), dimension_numbers=numbers
    )
    return act(x).reshape(len(x), -1) @ W["z"]["w"]


def residual(W, x, act=jnp.tanh):
    """A graph, not a chain; one call is compiled, one is rematerialised."""
    inner = jax.jit(lambda w, x: act(x @ w["w"] + w["b"]))
    x = x + inner(W["a"], x)
    x = x + jax.checkpoint(inner)(W["b"], x)
    return x @ W["z"]["w"].T + W["z"]["b"]


def leaf(rng, *shape):
    return rng.normal(size=shape) / np.prod(shape[:-1]) ** 0.5


def layer(rng, a, b):
    return {"w": leaf(rng, a, b), "b": leaf(rng, b)}


def build(name):
    rng = np.random.default_rng(0)
    if name == "dense":
        return dense, {"a": layer(rng, 5, 4), "z": layer(rng, 4, C)}, (5,)
    if name == "sequence":
        W = {"a": layer(rng, 4, 6), "h": leaf(rng, 6, 2, 3), "left": leaf(rng, 5, 6)}
        return sequence, W | {"z": layer(rng, 5, C)}, (7, 4)
    if name == "residual":
        W = {"a": layer(rng, 5, 5), "b": layer(rng, 5, 5), "z": layer(rng, 5, C)}
        W["z"]["w"] = W["z"]["w"].T.copy()
        return residual, W, (5,)
    W = {"c": leaf(rng, 3, 2, 2, 3), "cb": leaf(rng, 3), "d": leaf(rng, 2, 2, 3, 2)}
    return images, W | {"z": {"w": leaf(rng, 16, C)}}, (7, 5, 2)


NETWORKS = ("dense", "sequence", "residual", "images")


def cast(W, dtype):
    return jax.tree.map(lambda x: np.asarray(x, dtype), W)


def per_sample(function, W, X, seeds=None):
    """Gradients (N, C, ...) by every leaf of -log_softmax[c'], or of seeds . logits."""

    def loss(W, x, c, seed):
        z = function(W, x[None])[0]
        return -jax.nn.log_softmax(z)[c] if seeds is None else seed @ z

    given = jnp.zeros((len(X), C, C)) if seeds is None else seeds
    over_c = jax.vmap(jax.grad(loss), (None, None, 0, 0))
    over_n = jax.jit(jax.vmap(over_c, (None, 0, None, 0)))
    return over_n(W, X, jnp.arange(C), given)


@jax.custom_jvp
def magnitude(A):
    """Passes A on; its slope is 1 + A, which covers a slope <= 1 and its change."""
    return A


@magnitude.defjvp
def _(primals, tangents):
    return primals[0], (1 + primals[0]) * tangents[0]


def bounds(function, W, X, u):
    """Bound the rounding of every gradient of a float64 network run at roundoff u."""
    W, A = jax.tree.map(np.abs, W), np.abs(X)
    top = jnp.max(function(W, A, magnitude), axis=1)
    seeds = (1 + jnp.eye(C)) * (1 + 2 * top)[:, None, None]
    fans = sum(x.size // min(x.shape) for x in jax.tree.leaves(W))
    g = rounding.gamma(8 * (4 * C + 64 + 3 * fans + len(X[0])), u)
    made = per_sample(lambda W, x: function(W, x, magnitude), W, A, seeds)
    return jax.tree.map(lambda x: g * x, made)


def matrices(snapshot):
    """Return sum_t errors (x) features, (N, C, b, a), by layer."""
    for x in snapshot.layers:
        e, f = x.errors, x.features
        yield x.name, np.swapaxes(e, 2, 3) @ f[:, None]


def as_matrix(name, tree):
    """Return a gradient tree's leaf (and its bias) as (N, C, b, a)."""
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x)
        for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]
    }
    x = flat[name]
    if name == "left" or (name == "z.w" and x.shape[2] == C and x.shape[3] != C):
        x = x.reshape(N, C, x.shape[2], -1)  # stored as (b, a)
    elif name == "h":
        x = x.reshape(N, C, x.shape[2], -1).swapaxes(2, 3)
    elif x.ndim == 6:  # (kh, kw, in, out) to (out, in, kh, kw)
        x = x.transpose(0, 1, 5, 4, 2, 3).reshape(N, C, x.shape[5], -1)
    else:
        x = x.swapaxes(2, 3)
    bias = {"a.w": "a.b", "b.w": "b.b", "z.w": "z.b", "c": "cb"}.get(name)
    if bias in flat:
        x = np.concatenate([x, flat[bias][..., None]], axis=3)
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_rows_are_jaxs_gradients(name, dtype):
    function, W, shape = build(name)
    W = cast(W, dtype)
    X = np.random.default_rng(1).normal(size=(N, *shape)).astype(dtype)
    made = export_jax(function, W, [(X, LABELS)], None)
    assert made.provenance["dtype"] == dtype
    wide, Y = cast(W, "float64"), X[ORDER].astype("float64")
    truth = per_sample(function, wide, Y)
    slack = bounds(function, wide, Y, UNIT[dtype])
    names = [x.name for x in made.layers]
    assert len(names) == {"dense": 2, "sequence": 4, "residual": 3, "images": 3}[name]
    for key, x in matrices(made):
        y, bound = as_matrix(key, truth), as_matrix(key, slack)
        assert x.shape == y.shape
        assert np.all(np.abs(x - y) <= bound)
        # mutants: another order of the columns, another label, nothing at all
        if x.shape[-1] > 2:
            assert not np.all(np.abs(np.roll(x, 1, axis=-1) - y) <= bound)
        assert not np.all(np.abs(np.roll(x, 1, axis=1) - y) <= bound)
        assert not np.all(np.abs(y) <= bound)
    z = np.asarray(function(wide, Y))
    top = np.asarray(jnp.max(function(jax.tree.map(np.abs, wide), abs(Y), magnitude)))
    p = np.asarray(jax.nn.softmax(z))
    size = sum(x.size for x in jax.tree.leaves(wide)) + Y[0].size + 64
    g = np.expm1(rounding.gamma(8 * size, UNIT[dtype]) * (1 + 2 * top))
    assert np.all(np.abs(made.probabilities - p) <= g * p)


def test_small_errors_keep_relative_accuracy():
    """A saturated network: the last errors are sums, no differences."""
    W = {"w": np.asarray([[90.0, 0.0, -80.0]], "float32")}
    X = np.ones((3, 1), "float32")
    made = export_jax(lambda W, x: x @ W["w"], W, [(X, [0, 1, 2])], None)
    z = np.asarray([90.0, 0.0, -80.0], np.longdouble)
    e = np.exp(z - 90)
    exact = -(e[1] + e[2]) / e.sum()
    got = made.layers[0].errors[0, 0, 0, 0]
    bound = abs(exact) * np.expm1(rounding.gamma(64, 2.0**-24) * (1 + 180))
    assert 0 < abs(got) < 2.0**-100
    assert abs(got - exact) <= bound
    assert not abs(np.float64(1) - 1 - exact) <= bound  # the mutant: p - 1


@pytest.mark.parametrize(
    ("act", "op"),
    [
        (jnp.tanh, "tanh"),
        (jax.nn.relu, "relu"),
        (lambda z: jnp.maximum(z, 0), "relu"),
        (lambda z: jnp.maximum(0.0, z), "relu"),
        (jax.nn.sigmoid, "sigmoid"),
        (jax.nn.softplus, "softplus"),
        (jax.nn.silu, "silu"),
        (jax.nn.leaky_relu, "leaky_relu"),
        (jax.nn.elu, "elu"),
        (jax.nn.relu6, "clip"),
        (jax.nn.hard_swish, "hard_swish"),
        (jax.nn.log_sigmoid, "log_sigmoid"),
        (lambda z: jax.nn.gelu(z, approximate=False), "gelu"),
        (lambda z: jax.nn.gelu(z), "gelu_tanh"),
    ],
)
def test_a_plain_network_is_stored(act, op):
    function, W, _ = build("dense")
    X = np.random.default_rng(1).normal(size=(N, 5))
    made = export_jax(lambda W, x: function(W, x, act), W, [(X, LABELS)], None)
    assert [x["op"] for x in made.model.operations] == ["linear", op, "linear"]
    assert np.array_equal(made.model.inputs, X[ORDER])
    assert np.array_equal(made.model.parameters["a.w"], W["a"]["w"].T)
    found = recompute(made)
    assert len(found) == 5
    assert all(x.ratio <= 1 for x in found)
    hard = "sigmoid" if op != "sigmoid" else "tanh"  # the mutant
    chain = [dict(x) for x in made.model.operations]
    chain[1]["op"] = hard
    mutant = models.Network(chain, made.model.parameters)
    again = models.snapshot(mutant, made.model.inputs, made.labels)
    assert not np.array_equal(again.layers[1].features, made.layers[1].features)


@pytest.mark.parametrize(
    "between",
    [
        lambda z: z * jnp.tanh(z),
        jax.nn.selu,
        lambda z: jnp.tanh(z)[:, ::-1],
        lambda z: z / jnp.linalg.norm(z, axis=-1, keepdims=True),
    ],
)
def test_other_networks_have_no_model_section(between):
    function, W, _ = build("dense")
    X = np.random.default_rng(1).normal(size=(N, 5))
    made = export_jax(lambda W, x: function(W, x, between), W, [(X, LABELS)], None)
    assert made.model is None
    assert "is no operation" in made.provenance["without_network"]
    assert len(made.layers) == 2


def test_scaled_inputs_and_logits_and_sums_are_read():
    function, W, _ = build("dense")
    X = np.random.default_rng(1).normal(size=(N, 5))
    for wrapped, count in (
        (lambda W, x: function(W, x / 2), 1),
        (lambda W, x: function(W, 3 - x) / 2, 2),
        (lambda W, x: function(W, x, lambda z: z + jnp.tanh(2 * z + 1)), 1),
        (lambda W, x: function(W, x)[:, ::-1], None),
        (lambda W, x: function(W, x) + x[:, :C], None),
    ):
        made = export_jax(wrapped, W, [(X, LABELS)], None)
        assert (made.model is None) == (count is None)
        if made.model is not None:
            kinds = [x["op"] for x in made.model.operations]
            assert kinds.count("batch_norm") == count
            assert all(x.ratio <= 1 for x in recompute(made))


def convolved(x, w):
    how = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=how)


def shortcut(W, x):
    y = convolved(x, W["c"]) + W["cb"]
    y = (y - W["mean"]) * lax.rsqrt(W["var"] + 1e-5) * W["scale"] + W["shift"]
    y = jax.nn.relu(y)
    y = y + jnp.tanh(convolved(y, W["d"]))
    window = (1, 2, 2, 1)
    y = lax.reduce_window(y, -jnp.inf, lax.max, window, window, "VALID")
    return y.reshape(len(y), -1) @ W["z"]


def averaged(W, x):
    y, window = jax.nn.elu(convolved(x, W["c"]) + W["cb"]), (1, 2, 2, 1)
    y = lax.reduce_window(y, 0.0, lax.add, window, window, "VALID") / 4
    return convolved(y, W["d"]).mean((1, 2)) @ W["last"]


@pytest.mark.parametrize(
    ("function", "operations", "left_out"),
    [
        (
            shortcut,
            "conv2d batch_norm relu conv2d tanh max_pool2d flatten_channels_last "
            "linear",
            ["last", "mean", "scale", "shift", "var"],
        ),
        (
            averaged,
            "conv2d elu avg_pool2d conv2d avg_pool2d flatten linear",
            ["mean", "scale", "shift", "var", "z"],
        ),
    ],
)
def test_images_with_channels_last_are_read(function, operations, left_out):
    rng = np.random.default_rng(0)
    W = {k: rng.normal(size=3) for k in ("cb", "mean", "scale", "shift")}
    W |= {"var": rng.uniform(0.5, 2, 3), "c": leaf(rng, 3, 3, 2, 3)}
    W |= {"d": leaf(rng, 3, 3, 3, 3), "z": leaf(rng, 27, C), "last": leaf(rng, 3, C)}
    X = rng.normal(size=(N, 6, 6, 2))
    made = export_jax(function, W, [(X, LABELS)], None)
    assert " ".join(x["op"] for x in made.model.operations) == operations
    assert made.model.inputs.shape == (N, 2, 6, 6)
    assert all(x.ratio <= 1 for x in recompute(made))
    assert sorted(made.provenance["left_out"]) == left_out
    assert made.provenance["biases"]["c"] is True
    assert made.provenance["biases"]["d"] is False


def test_flax(tmp_path):
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Dense(6)(x)
            x = x + linen.MultiHeadDotProductAttention(2)(linen.LayerNorm()(x))
            return linen.Dense(C)(linen.gelu(x).mean(axis=1))

    net, X = Net(), np.random.default_rng(1).normal(size=(N, 5, 4))
    variables = cast(jax.jit(net.init)(jax.random.key(0), X), "float64")
    made = export_jax(net.apply, variables, [(X, LABELS)], None)
    assert [x.name for x in made.layers][:2] == [
        "params.Dense_0.kernel",
        "params.MultiHeadDotProductAttention_0.query.kernel",
    ]
    assert len(made.layers) == 6
    # every kernel and every bias: the squared norms of the gradients are the leaves'
    truth = per_sample(net.apply, variables, X[ORDER])["params"]
    for (key, x), (_, a) in zip(
        matrices(made),
        [(x.name, x.features.shape[2]) for x in made.layers],
        strict=True,
    ):
        node = truth
        for part in key.split(".")[1:-1]:
            node = node[part]
        kernel, bias = (np.asarray(node[k]) for k in ("kernel", "bias"))
        if kernel.ndim == 5:  # (in, heads, depth) or (heads, depth, out)
            kernel = kernel.reshape(N, C, 6, 6)
        y = np.concatenate(
            [kernel.swapaxes(2, 3), bias.reshape(N, C, -1)[..., None]], axis=3
        )
        assert y.shape[3] == a
        # both are float64 runs of one program: they differ by roundings that reach an
        # entry along paths through at most `fans` sums each, of attention's softmax,
        # LayerNorm's and gelu's bounded slopes; the mutant shows what that excludes
        bound = rounding.gamma(2**20, UNIT["float64"]) * np.max(np.abs(y))
        assert np.max(np.abs(x - y)) <= bound
        assert np.max(np.abs(np.roll(x, 1, axis=3) - y)) > bound
        assert np.max(np.abs(np.roll(x, 1, axis=2) - y)) > bound
    path = export_jax(net.apply, variables, [(X, LABELS)], tmp_path / "flax.zarr")
    again = export.load(path)
    assert np.array_equal(again.layers[3].errors, made.layers[3].errors)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(5, C, 4, 2, key=jax.random.key(0), dtype="float64")
    X = np.random.default_rng(1).normal(size=(N, 5))
    made = export_jax(lambda model, x: jax.vmap(model)(x), model, [(X, LABELS)], None)
    assert [x.name for x in made.layers] == [f"layers.{k}.weight" for k in range(3)]
    assert [x["op"] for x in made.model.operations] == ["linear", "relu"] * 2 + [
        "linear"
    ]
    assert np.array_equal(
        made.model.parameters["layers.0.weight"], model.layers[0].weight
    )
    assert all(x.ratio <= 1 for x in recompute(made))


def tied(W, x):
    return jnp.tanh(x @ W["a"] + jnp.tanh(x) @ W["a"]) @ W["z"]


def scanned(W, x):
    x, _ = lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, W["s"])
    return x @ W["z"]


def mixed(W, x):
    x = x @ W["a"]
    return (x - x.mean(axis=0)) @ W["z"]


def grouped(W, x):
    y = lax.conv_general_dilated(
        x[:, :, None], W["g"], (1,), "VALID", feature_group_count=5
    )
    return y[..., 0] @ W["z"]


REFUSED = {
    "tied": (tied, "'a' is used 2 times"),
    "scanned": (scanned, "'s' enters scan"),
    "grouped": (grouped, "'g' is a convolution of several groups"),
    "stacked": (
        lambda W, x: (
            jnp.einsum("nbi,bij->nbj", x[:, None].repeat(5, 1), W["s"])[:, 0] @ W["z"]
        ),
        "'s' is a stack of matrices",
    ),
    "product": (lambda W, x: x @ (W["a"] @ W["z"]), "is multiplied by another"),
    "mixed": (mixed, "treat each sample by itself"),
    "one logit": (lambda W, x: x @ W["o"], "lie in 0..C-1 = 0..1, got 0..2"),
    "image": (lambda W, x: (x @ W["z"])[..., None], r"got \(8, 3, 1\)"),
    "tuple": (lambda W, x: (x @ W["z"],), "got <class 'tuple'>"),
    "diverged": (lambda W, x: x * jnp.inf @ W["z"], "must be finite"),
    "none": (lambda W, x: x[:, :C] * W["a"][0, 0], "layers that can be exported"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refusals_name_the_leaf(tmp_path, case):
    function, message = REFUSED[case]
    rng = np.random.default_rng(0)
    W = {"a": leaf(rng, 5, 5), "z": leaf(rng, 5, C), "s": leaf(rng, 5, 5, 5)}
    W |= {"g": leaf(rng, 5, 1, 1), "o": leaf(rng, 5, 1)}
    X = rng.normal(size=(N, 5))
    for kind in (".npz", ".zarr"):
        with pytest.raises(ValueError, match=message):
            export_jax(function, W, [(X, LABELS)], tmp_path / f"run{kind}")
    assert not list(tmp_path.iterdir())


def test_a_refused_leaf_can_be_left_out():
    rng = np.random.default_rng(0)
    W = {"a": leaf(rng, 5, 5), "z": leaf(rng, 5, C)}
    X = rng.normal(size=(N, 5))
    made = export_jax(tied, W, [(X, LABELS)], None, layers=["z"])
    assert [x.name for x in made.layers] == ["z"]
    with pytest.raises(ValueError, match="'a' is used 2 times"):
        export_jax(tied, W, [(X, LABELS)], None, layers=["z", "a"])


def test_layers_are_chosen_by_name():
    function, W, _ = build("dense")
    X = np.random.default_rng(1).normal(size=(N, 5))
    made = export_jax(function, W, [(X, LABELS)], None, layers=["z.w", "a.w"])
    every = export_jax(function, W, [(X, LABELS)], None)
    assert [x.name for x in made.layers] == ["z.w", "a.w"]
    for name in ("a.w", "z.w"):
        assert np.array_equal(made.layer(name).features, every.layer(name).features)
        assert np.array_equal(made.layer(name).errors, every.layer(name).errors)
    for bad in (["nine"], [], ["z.w", "z.w"]):
        with pytest.raises(ValueError, match=r"among \['a\.w', 'z\.w'\]"):
            export_jax(function, W, [(X, LABELS)], None, layers=bad)
    with pytest.raises(ValueError, match=r"'a\.b' enters no matrix product"):
        export_jax(function, W, [(X, LABELS)], None, layers=["a.b"])


def test_an_embedding_is_no_linear_map():
    rng = np.random.default_rng(0)
    W = {"table": leaf(rng, 11, 5), "z": leaf(rng, 5, C)}
    tokens = rng.integers(0, 11, (N, 6))
    made = export_jax(
        lambda W, x: W["table"][x].mean(axis=1) @ W["z"], W, [(tokens, LABELS)], None
    )
    assert [x.name for x in made.layers] == ["z"]


def test_bad_batches(tmp_path):
    function, W, _ = build("dense")
    X = np.random.default_rng(1).normal(size=(N, 5))
    for loader, message in [
        ([], "at least one batch"),
        ([X], "for two arrays X and y"),
        ([(X, LABELS - 1)], r"0\.\.2, got -1\.\.1 in batch 0"),
        ([(X, LABELS), (X, LABELS + 1)], r"0\.\.2, got 1\.\.3 in batch 1"),
        ([(X, LABELS / 1)], "got float64"),
        ([(X, LABELS[:3])], r"\(batch,\) = \(8,\), got int64 of shape \(3,\)"),
        ([(X, LABELS), (X[:0], LABELS[:0])], "batch 1 must hold a sample"),
        ([(X, LABELS), (X[:, :4], LABELS)], r"shape \(5,\) of the first one"),
    ]:
        with pytest.raises(ValueError, match=message):
            export_jax(function, W, loader, tmp_path / "run.zarr")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="tree of arrays"):
        export_jax(function, {}, [(X, LABELS)], None)
    half = cast(W, "float16")
    with pytest.raises(ValueError, match=r"'a\.w' is float16"):
        export_jax(function, half, [(X, LABELS)], None)


def test_batches_add_up_and_a_bar_shows_on_a_terminal(monkeypatch, capfd):
    function, W, _ = build("dense")
    X = np.random.default_rng(1).normal(size=(N, 5))
    pieces = [(X[:3], LABELS[:3]), (X[3:4], LABELS[3:4]), (X[4:], LABELS[4:])]
    made = export_jax(function, W, pieces, None, provenance={"seed": 1, "loss": "x"})
    assert capfd.readouterr() == ("", "")
    assert made.provenance["seed"] == 1
    assert made.provenance["loss"] == "cross_entropy"
    assert made.provenance["framework"] == "jax"
    assert all(x.ratio <= 1 for x in recompute(made))
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True)
    monkeypatch.setattr(exporter, "Console", lambda **_: console)
    export_jax(function, W, pieces, None)
    assert "exporting" in screen.getvalue()


def test_without_jax_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    for name in ("jax", "jax_operations", "jax_tracing"):
        monkeypatch.delitem(sys.modules, f"refspec.exporters.{name}")
    with pytest.raises(ImportError, match=r"refspec\[jax\]"):
        import refspec.exporters.jax  # noqa: F401
