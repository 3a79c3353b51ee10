"""Any JAX classifier: its Fisher and Hessian against jax.jacrev and jax.hessian."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import refspec
from frameworks.jax_comparisons import compare, compare_export
from refspec import rounding
from refspec.attribution import attribute_hessian
from refspec.exporters.jax import export, hessian, moment
from refspec.rows import forming_radius
from support.jax_networks import NETWORKS, C, N, loader, network

jax.config.update("jax_enable_x64", True)
U = 2.0**-53
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_fisher_and_hessian_are_those_of_the_definition(name):
    found, fisher, curved = compare(name)
    assert sum(n for _, n in found.blocks) == found.shape[1]
    for off, bound in (fisher, curved):
        assert off <= bound < 2.0**-24


@pytest.mark.parametrize("name", ["dense", "nnx", "a recurrence"])
def test_rows_of_an_export_are_those_of_the_definition(name):
    found = compare_export(name)
    if name == "a recurrence":
        assert "enters scan" in found
        return
    off, bound = found[1]
    assert off <= bound < 2.0**-24
    assert found[0].left_out


def test_a_choice_of_leaves_is_a_block_of_the_whole():
    function, W, inputs = network("dense")
    whole = moment(function, W, loader(inputs))
    names = [name for name, _ in whole.blocks]
    assert names == ["a", "b", "scale", "z"]
    part = moment(function, W, loader(inputs), ["b", "scale"])
    assert str(part.coverage).startswith("covers 10 of 45 parameters (2 of 4 modules)")
    block = whole.matrix()[20:30, 20:30]
    limit = 4 * forming_radius(whole.rows, whole.trace(), U)
    limit += 2 * rounding.second_moment_radius(N * C + 8, whole.trace(), U)
    assert np.linalg.norm(part.matrix() - block) <= limit
    again = moment(function, W, loader(inputs), lambda name, _: name in ("b", "scale"))
    assert again.blocks == part.blocks


def test_it_has_the_spectrum_of_an_export_and_the_hessian_is_attributed():
    rng = np.random.default_rng(0)
    W = {"a": rng.normal(size=(4, 5)), "b": rng.normal(size=5)}
    W["z"] = rng.normal(size=(5, C))

    def function(W, x):
        return jnp.tanh(x @ W["a"] + W["b"]) @ W["z"]

    batches = loader(rng.normal(size=(N, 4)))
    G, H = moment(function, W, batches), hessian(function, W, batches)
    found = refspec.attribute(G)
    seen = refspec.attribute(export(function, W, batches, None, progress=False))
    assert found.spectrum.kind.startswith("measured")
    n, radius = min(len(found.kinds), len(seen.kinds)), found.radius + seen.radius
    gap = found.spectrum.values[:n] - seen.spectrum.values[:n]
    assert np.abs(gap).max() <= radius
    whole, ends = attribute_hessian(H, G), attribute_hessian(H, G, top=2)
    assert np.abs(sum(whole.parts.values()) - whole.values).max() <= whole.radius
    pick = np.r_[:2, -2:0]
    assert np.abs(ends.values - whole.values[pick]).max() <= ends.radius + whole.radius


def test_the_hessian_of_a_fit_has_its_digits():
    """Logits of 60 apart: p - e_c is far below the roundoff of 1."""
    W = 30 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    H = hessian(lambda W, x: x @ W, W, [(np.eye(2), np.arange(2))])
    q = np.exp(-60.0) / (1 + np.exp(-60.0)) ** 2  # p (1 - p)
    A = np.array([[q, -q], [-q, q]])
    true = sum(np.kron(np.outer(a, a), A) for a in np.eye(2)) / 2
    size = np.linalg.norm(true)
    assert np.linalg.norm(H.dot(np.eye(4)) - true) <= H.lost + 128 * U * size
    assert H.lost <= 2.0**-30 * size


def test_float32_and_float64_whatever_jax_is_set_to():
    function, W, inputs = network("dense")
    wide = moment(function, W, loader(inputs))
    try:
        jax.config.update("jax_enable_x64", False)
        narrow = moment(function, W, loader(inputs), dtype=np.float32)
        again = moment(function, W, loader(inputs))
    finally:
        jax.config.update("jax_enable_x64", True)
    every = np.arange(N * C)
    X, Y, Z = (x.rows.take(every).astype(float) for x in (wide, narrow, again))
    assert 0 < np.linalg.norm(X - Y) <= narrow.rows.forming() + wide.rows.forming()
    assert np.linalg.norm(X - Z) <= wide.rows.forming() + again.rows.forming()
    assert again.rows.forming() <= 2.0**-20 * narrow.rows.forming()


def test_a_function_of_float32_alone_says_how_it_is_measured():
    def function(W, x):
        start = jnp.zeros((len(x), C), jnp.float32)
        return jax.lax.scan(lambda h, _: (jnp.tanh(h + x @ W), None), start, None, 2)[0]

    W = np.random.default_rng(0).normal(size=(4, C))
    batches = loader(np.random.default_rng(1).normal(size=(N, 4)))
    with pytest.raises(ValueError, match=r"takes dtype=numpy\.float32"):
        moment(function, W, batches)
    found = moment(function, W, batches, dtype=np.float32)
    assert found.rows.known == "measured between two modes only"
    assert hessian(function, W, batches, dtype=np.float32).lost > 0
    stream = moment(function, W, iter(batches), dtype=np.float32)  # read once
    assert np.array_equal(stream.matrix(), found.matrix())


@jax.custom_jvp
def without_derivatives(x):
    return x


@without_derivatives.defjvp
def _refuse(*_):
    raise RuntimeError("no derivative")


def test_whatever_forward_mode_raises_is_a_sentence():
    batches = loader(np.random.default_rng(1).normal(size=(N, 4)))
    with pytest.raises(ValueError, match=r"differentiable.*RuntimeError 'no d"):
        moment(lambda W, x: without_derivatives(x @ W), np.ones((4, C)), batches)


def mixing(W, x):
    z = x @ W["w"]
    return z - z.mean(0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"function": mixing}, "must treat each sample by itself"),
        ({"function": 3}, "function must be callable"),
        ({"function": lambda W, x: jax.nn.softmax(x @ W["w"])}, "take the softmax off"),
        ({"function": lambda W, x: x @ W["w"].T}, "function must take"),
        ({"chosen": ["v"]}, "chosen must be names among"),
        ({"chosen": "w"}, "chosen must be a list"),
        ({"chosen": lambda *_: False}, "got none of them"),
        ({"parameters": {"w": np.ones((4, C), int)}}, "some of them real"),
        ({"dtype": np.float16}, "dtype must be numpy.float32"),
        ({"sample_weights": np.ones(N + 1)}, r"\(N,\) with N = 6"),
        ({"parameters": {"w": np.ones(1), 3: np.ones(1)}}, "that JAX can flatten"),
        ({"loader": [(jnp.ones((0, 4)), np.zeros(0, int))]}, "must hold a sample"),
        ({"loader": [({"s": jnp.ones(())}, [0, 1])]}, "got a single number in batch 0"),
        ({"classes": [0]}, "classes must be at least two"),
    ],
)
def test_what_has_no_such_moment_is_refused(changed, message):
    rng = np.random.default_rng(0)
    given = {"function": lambda W, x: x @ W["w"], "parameters": {"w": np.ones((4, C))}}
    given |= {"loader": loader(rng.normal(size=(N, 4)))} | changed
    with pytest.raises((TypeError, ValueError), match=message):
        moment(**given)
