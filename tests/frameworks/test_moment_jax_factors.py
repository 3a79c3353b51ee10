"""Rows of linear maps are factors in JAX, too, their columns in its own order.

Where rows of all leaves do not fit. Against the definition, as all moments are.
"""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import refspec
from frameworks.jax_comparisons import compare_fisher
from refspec import differentiated, memory, rounding
from refspec.exporters import factored, jax_factors
from refspec.exporters.jax import moment
from refspec.exporters.jax_leaves import leaves_of
from refspec.exporters.jax_moment import Derivative
from refspec.factors import Factors
from refspec.grams import held
from refspec.layerwise import Layerwise
from refspec.rows import forming_radius
from support.jax_networks import LABELS, NETWORKS, C, N, loader, network

jax.config.update("jax_enable_x64", True)
U = 2.0**-53
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
EVERY = np.arange(N * C)
#: Networks whose rows are factors, and of which leaves, so that all kinds are there.
PRODUCTS = {
    "dense": "a z",
    "a weight used twice": "z",
    "depthwise, transposed": "z",
    "reverse mode only": "a z",
    "channels first": "c z",
    "two inputs": "a b",
    "flax, convolutions": "Conv_0 Conv_1 Dense_0 Dense_1",
    "flax, attention": "Dense_0 key out query value",
    "equinox": "query_proj key_proj value_proj output_proj head",
}


@pytest.fixture
def short(monkeypatch):
    """Leave room for all explicit rows but one number."""

    def limit(name):
        function, W, inputs = network(name)
        names, leaves, _ = leaves_of(W)
        flax = any(x.startswith("params.") for x in names)
        P = sum(
            x.size
            for n, x in zip(names, leaves, strict=True)
            if jnp.issubdtype(x.dtype, jnp.floating)
            and (n.startswith("params.") or not flax)
        )
        monkeypatch.setattr(differentiated, "_HELD", 8 * N * C * P - 1)
        return function, W, inputs

    return limit


def apart(monkeypatch, room=0):
    """Let no factors fit together."""
    monkeypatch.setattr(jax_factors.Gathered, "fit", False)
    monkeypatch.setattr(Layerwise, "_room", room)


def close(one, other):
    """Whether the rows of two moments are apart by what they are known to err."""
    gap = np.linalg.norm(one.rows.take(EVERY) - other.rows.take(EVERY))
    return gap <= one.rows.forming() + other.rows.forming() + 64 * U


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_fisher_is_that_of_the_definition(short, name):
    """Columns are entries of leaves as JAX ravels them, of Flax, nnx and Equinox."""
    function, W, inputs = short(name)
    found = moment(function, W, loader(inputs))
    assert isinstance(found.rows, Factors)
    off, limit = compare_fisher(found, function, W, inputs)
    assert off <= limit < 2.0**-24
    assert found.rows.known == "measured"
    if name in PRODUCTS:
        kinds = zip(found.rows.layers, found.blocks, strict=True)
        seen = [n for f, (n, _) in kinds if f.features is not None]
        seen = [n.removesuffix(".kernel").removesuffix(".weight") for n in seen]
        assert [n.split(".")[-1] for n in seen] == PRODUCTS[name].split()


def test_a_convolution_and_its_bias_beside_dense_layers(short):
    function, W, inputs = short("flax, convolutions")
    found = moment(function, W, loader(inputs))
    off, limit = compare_fisher(found, function, W, inputs)
    assert off <= limit < 2.0**-24
    true = refspec.attribute(found, top=3)
    values = np.linalg.eigvalsh(found.matrix())[::-1][:3]
    assert np.abs(true.spectrum.values - values).max() <= 2 * true.radius
    assert "measured" in true.spectrum.kind


def test_the_largest_are_attributed_as_those_of_explicit_rows(short):
    function, W, inputs = network("dense")
    true = moment(function, W, loader(inputs))
    one = refspec.attribute(true, top=3)
    short("dense")
    two = refspec.attribute(moment(function, W, loader(inputs)), top=3)
    radius = one.radius + two.radius
    assert np.abs(one.spectrum.values - two.spectrum.values).max() <= radius
    for name, values in one.levels.items():
        assert np.abs(two.levels[name] - values).max() <= radius
    assert one.kinds == two.kinds


def test_a_block_and_a_choice_are_those_of_the_whole(short):
    """Weights or biases alone; all that a name holds."""
    function, W, inputs = network("dense")
    true = moment(function, W, loader(inputs))
    function, W, inputs = short("dense")
    whole = moment(function, W, loader(inputs))
    for names in (["a"], ["b", "scale"], ["b", "z"]):
        part = true.part(names)
        assert isinstance(whole.part(names).rows, Factors)
        assert close(whole.part(names), part)
        assert close(moment(function, W, loader(inputs), names), part)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("flax, convolutions", 0),
        ("flax, convolutions", 2**12),
        ("channels first", 2**11),
        ("dense", 2**40),
    ],
)
def test_factors_that_do_not_fit_are_gathered_map_by_map(
    short, monkeypatch, name, room
):
    """Whole maps together, or some outputs of one: XX' is that of explicit rows."""
    function, W, inputs = network(name)
    true = moment(function, W, loader(inputs))
    short(name)
    apart(monkeypatch, room)
    found = moment(function, W, loader(inputs))
    assert isinstance(found.rows, Layerwise)
    X = true.rows.take(EVERY)
    G, trace = X @ X.T, true.trace()
    limit = forming_radius(true.rows, trace, U) + forming_radius(found.rows, trace, U)
    limit += rounding.second_moment_radius(512, trace, U)
    assert np.linalg.norm(found.rows.outer() - G) <= limit
    assert not np.linalg.norm(found.rows.outer() * (1 + 2.0**-24) - G) <= limit
    made = held(found)
    off = made.gram_times(np.eye(N * C).reshape(N, C, -1)).reshape(N * C, -1) - G
    assert np.linalg.norm(off) <= limit + made.off
    assert close(found, true)  # products are those by differentiation


def test_what_memory_allows_is_what_is_held(short):
    function, W, inputs = short("flax, convolutions")
    with memory.within(2**11):
        found = moment(function, W, loader(inputs))
    assert isinstance(found.rows, Layerwise)


def test_in_float32_the_measured_error_is_a_bound(short):
    function, W, inputs = short("dense")
    narrow = moment(function, W, loader(inputs), dtype=np.float32)
    wide = moment(function, W, loader(inputs))
    assert narrow.rows.like.dtype == np.float32
    Y, Z = (x.rows.take(EVERY).astype(float) for x in (narrow, wide))
    assert 0 < np.linalg.norm(Y - Z) <= narrow.rows.forming() + wide.rows.forming()
    assert wide.rows.forming() <= 2.0**-20 * narrow.rows.forming()


def test_samples_at_positions_that_weigh_and_are_ignored(monkeypatch):
    """Tokens: several samples an input, some without a label; a part that is small."""
    rng = np.random.default_rng(0)
    W = {"a": rng.normal(size=(4, 5)), "b": rng.normal(size=5)}
    W["z"] = rng.normal(size=(5, C))
    inputs, labels = rng.normal(size=(5, 2, 4)), rng.integers(C, size=(5, 2))
    labels[1, 1] = labels[3, 0] = -100

    def function(W, x):
        return jnp.tanh(x @ W["a"] + W["b"]) @ W["z"]

    how = {"ignore_index": -100, "class_weights": [1.0, 2.0, 0.5]}
    batches = [(inputs[:3], labels[:3]), (inputs[3:], labels[3:])]
    true = moment(function, W, batches, **how)
    n = true.rows.shape[0]
    monkeypatch.setattr(differentiated, "_HELD", 8 * n * C * true.shape[1] - 1)
    for room in (2**28, 1):  # all inputs of a batch, or one at a time
        monkeypatch.setattr(jax_factors, "_ROOM", room)
        found = moment(function, W, iter(batches), **how)
        kinds = [f.features is not None for f in found.rows.layers]
        assert kinds == [True, False, True]
        every = np.arange(n * C)
        gap = np.linalg.norm(found.rows.take(every) - true.rows.take(every))
        assert gap <= found.rows.forming() + true.rows.forming() + 64 * U
        assert found.offsets == true.offsets


@pytest.mark.parametrize("places", ["none", "backwards"])
def test_columns_in_another_order_are_refused(short, monkeypatch, places):
    """Rows are compared with derivatives: a factor laid out otherwise is none."""
    function, W, inputs = short("dense")
    true = jax_factors.Gathered.places.fget
    changed = {
        "none": lambda _: {},
        "backwards": lambda x: {n: np.argsort(i) for n, i in true(x).items()},
    }
    monkeypatch.setattr(jax_factors.Gathered, "places", property(changed[places]))
    with pytest.raises(ValueError, match="factors and J V must be products with one"):
        moment(function, W, loader(inputs))


def test_a_map_that_is_no_factor_is_differentiated(short, monkeypatch):
    """Errors that are off are no gradient of JAX: that leaf alone is left out."""
    pairs = jax_factors.Traced.pairs

    def wrong(self, *given):
        found = pairs(self, *given)
        return [
            (h, e * (1 + 2.0**-20) if name == "a" else e)
            for name, (h, e) in zip(self.names, found, strict=True)
        ]

    monkeypatch.setattr(jax_factors.Traced, "pairs", wrong)
    function, W, inputs = short("dense")
    for fit in (True, False):
        monkeypatch.setattr(jax_factors.Gathered, "fit", fit)
        found = moment(function, W, loader(inputs))
        if fit:
            kinds = [f.features is not None for f in found.rows.layers]
            assert kinds == [False, False, False, True]
            off, limit = compare_fisher(found, function, W, inputs)
            assert off <= limit < 2.0**-24
        else:
            assert found.rows.source.parameters == {"z"}


def test_what_cannot_be_traced_is_differentiated(short, monkeypatch):
    def refused(*_):
        raise TypeError("no way")

    monkeypatch.setattr(jax_factors, "trace", refused)
    function, W, inputs = short("dense")
    found = moment(function, W, loader(inputs))
    assert type(found.rows).__name__ == "Differentiated"


def test_what_does_not_fit_beside_factors_is_differentiated(short, monkeypatch):
    """No leaf's rows are formed where those of all others are too many."""
    function, W, inputs = short("a weight used twice")
    monkeypatch.setattr(differentiated, "_HELD", 8 * N * C * 16 - 1)
    found = moment(function, W, loader(inputs))
    assert type(found.rows).__name__ == "Differentiated"


def test_rows_of_others_are_of_those_alone(short, monkeypatch):
    """One derivative of all leaves, one of those that are no factors."""
    seen = []
    explicit = Derivative.explicit
    monkeypatch.setattr(
        Derivative,
        "explicit",
        lambda self, i, j: seen.append(self.shape[2]) or explicit(self, i, j),
    )
    function, W, inputs = short("dense")
    moment(function, W, loader(inputs)).matrix()
    assert set(seen) == {5}  # the scale


def test_parts_of_a_map_are_named_by_its_weights():
    part = factored.Part("a", 1, 4, 5)
    assert [(x.first, x.b) for x in part.cut(N, C, N * (4 + 2 * C))] == [
        (0, 2),
        (2, 2),
        (4, 1),
    ]
    assert len(LABELS) == N
