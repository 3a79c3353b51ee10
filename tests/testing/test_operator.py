"""assert_operator passes what is right and names every convention mistake.

The operators are made here, densely and by einsum, from the stored features and errors,
with no code of refspec between; each mistake is then made on purpose.
"""

import array_api_strict
import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given, settings

import refspec
from refspec import hessian, models, rounding
from refspec import strategies as rst
from refspec.testing import assert_operator
from refspec.testing.accuracy import accuracy
from refspec.testing.questions import ask
from support.mistakes import OPERATORS
from support.operators import (
    CASES,
    FISHER,
    KFAC,
    LABELS,
    POSITIONS,
    blocks,
    names_of,
    network,
)


@pytest.mark.parametrize("kind", CASES)
def test_right_operators_pass(kind):
    case = CASES[kind]
    F, s = case.fisher(), case.snapshot
    passed = assert_operator(F, s)
    assert passed.distance <= passed.radius < rounding.gamma(2**20, 2.0**-53)
    assert passed.failure == 0
    probed = assert_operator(lambda v: F @ v, s)
    assert 0 < probed.failure == rounding.FAILURE
    assert "probability" in probed.statement
    assert_operator(scipy.sparse.linalg.aslinearoperator(F), s)
    assert_operator(case.swap(F), s, order="column_stacked")
    assert_operator(case.fisher(case.own()), s, of="empirical_fisher")
    assert_operator(hessian.hessian(case.net, case.X, LABELS), s, of="hessian")
    assert_operator(blocks(case.kfac()), s, of="kfac")
    assert_operator(
        blocks(case.kfac("reduce", "reduce")), s, of="kfac", setting="reduce"
    )
    one = next(iter(case.layers))
    assert_operator(case.fisher(names=[one]), s, layer=one)
    assert_operator(F.astype(np.float32), s)
    assert_operator(array_api_strict.asarray(F), s)


def untold(names, how):
    """Names that no row of the table of mistakes makes: those have tests of theirs."""
    told = {row.told for row in OPERATORS if row.how == how}
    return [x for x in names if x not in told]


@pytest.mark.parametrize("name", untold(FISHER, {}))
@pytest.mark.parametrize("kind", CASES)
def test_mistakes_in_the_fisher_are_named(kind, name):
    case = CASES[kind]
    with pytest.raises(AssertionError) as error:
        assert_operator(FISHER[name](case), case.snapshot)
    assert name in names_of(error)


@pytest.mark.parametrize("name", untold(KFAC, {"of": "kfac"}))
@pytest.mark.parametrize("kind", CASES)
def test_mistakes_in_kfac_are_named(kind, name):
    case = CASES[kind]
    with pytest.raises(AssertionError) as error:
        assert_operator(KFAC[name](case), case.snapshot, of="kfac")
    assert name in names_of(error)


@pytest.mark.parametrize("name", POSITIONS)
def test_mistakes_with_positions_are_named(name):
    case = CASES["cnn"]
    layer = "conv1" if name.startswith("factor") else None
    with pytest.raises(AssertionError) as error:
        assert_operator(POSITIONS[name](case), case.snapshot, of="kfac", layer=layer)
    assert name in names_of(error)


@pytest.mark.parametrize("kind", CASES)
def test_a_smaller_side_is_explained(kind):
    case = CASES[kind]
    keep = ~case.biases()
    with pytest.raises(AssertionError, match="the bias is left out"):
        assert_operator(case.fisher()[np.ix_(keep, keep)], case.snapshot)
    one = next(iter(case.layers))
    with pytest.raises(AssertionError, match=f"that of layer {one!r}"):
        assert_operator(case.fisher(names=[one]), case.snapshot)


def test_an_unknown_mistake_gets_the_nearest_factor_and_the_layer():
    case = CASES["mlp"]
    A = case.fisher()
    A[-1, -1] *= 1.5
    with pytest.raises(AssertionError) as error:
        assert_operator(A, case.snapshot)
    text = str(error.value)
    assert "none of the usual convention mistakes fits" in text
    assert "found ~ " in text
    first, second = (x for x in text.splitlines() if "  in linear" in x)
    off = [float(x.split()[2]) for x in (first, second)]
    assert off[0] <= 1 < off[1]


def test_a_format_too_coarse_to_tell_is_refused():
    case = CASES["mlp"]
    with pytest.raises(ValueError, match="cannot tell"):
        assert_operator(case.fisher(), case.snapshot, dtype="bfloat16")
    with pytest.raises(ValueError, match="must name a floating format"):
        assert_operator(case.fisher(), case.snapshot, dtype="int8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"of": "curvature"}, "of must be one of"),
        ({"layer": "fc9"}, "layer must be one of"),
        ({"order": "random"}, "order must be one of"),
        ({"order": np.zeros(31, int)}, "a permutation of 0..P-1"),
        ({"setting": "both"}, "setting must be"),
    ],
)
def test_wrong_arguments(change, message):
    case = CASES["mlp"]
    with pytest.raises(ValueError, match=message):
        assert_operator(case.fisher(), case.snapshot, **change)


def test_wrong_operators():
    case = CASES["mlp"]
    P = len(case.fisher())
    with pytest.raises(TypeError, match="wrap it in a function"):
        assert_operator(3, case.snapshot)
    with pytest.raises(TypeError, match="must return an array"):
        assert_operator(lambda v: list(v), case.snapshot)
    with pytest.raises(ValueError, match="flatten what it returns"):
        assert_operator(lambda v: v[:-1], case.snapshot)
    with pytest.raises(ValueError, match="look for an overflow"):
        assert_operator(np.full((P, P), np.nan), case.snapshot)
    with pytest.raises(ValueError, match="must be square"):
        assert_operator(np.ones((P, 2)), case.snapshot)
    with pytest.raises(ValueError, match="needs a snapshot with a model section"):
        assert_operator(np.eye(2), rst_snapshot(), of="hessian")


@pytest.mark.parametrize("name", ["digits_jax", "digits_mlp", "wine_sklearn"])
def test_a_hessian_in_float32_is_told_from_a_wrong_one(name):
    s = getattr(refspec.datasets, name)()
    network, X = models.of_snapshot(s)
    parameters = {k: x.astype(np.float32) for k, x in network.parameters.items()}
    network = models.Network(network.operations, parameters)
    layer, w = s.layers[-1].name, s.sample_weights.astype(np.float32)
    X = X.astype(np.float32)
    H = hessian.hessian(network, X, s.labels, layers=layer, sample_weights=w)
    assert_operator(H, s, of="hessian", layer=layer)
    with pytest.raises(AssertionError):
        assert_operator(np.float32(1.05) * H, s, of="hessian", layer=layer)


def test_where_a_bound_says_nothing_it_is_measured():
    """Signs that nobody knows, a relu of zeros."""
    net, X = network("mlp", "relu")
    X = np.concatenate([0 * X[:1], X[1:]])
    parameters = dict(net.parameters) | {"linear1.bias": np.zeros(4)}
    net = models.Network(net.operations, parameters)
    assert hessian.hessian_radius(net, X, LABELS) == np.inf
    s, H = models.snapshot(net, X, LABELS), hessian.hessian(net, X, LABELS)
    passed = assert_operator(H, s, of="hessian")
    assert passed.radius <= 2.0**-20 * np.linalg.norm(H)
    assert "measured on random probes" in passed.statement
    narrow = accuracy(ask(s, "hessian", None, "expand"), 2.0**-24)
    assert narrow.radius >= 2.0**20 * passed.radius
    with pytest.raises(AssertionError, match="none of the usual"):
        assert_operator((1 + 2.0**-15) * H, s, of="hessian")


def test_what_many_settings_explain_has_the_name_of_none():
    """All samples have one answer: any factor is class weights, padding, smoothing."""
    net = models.mlp([3, 4, 3], "relu", rng=np.random.default_rng(0))
    parameters = dict(net.parameters) | {"linear1.bias": np.full(4, -100.0)}
    net = models.Network(net.operations, parameters)
    X = np.random.default_rng(0).standard_normal((12, 3))
    s = models.snapshot(net, X, LABELS)
    for of in ("fisher", "empirical_fisher", "hessian"):
        make = refspec.curvature.empirical_fisher if "emp" in of else refspec.fisher
        A = 1.0009 * make(s).matrix()
        with pytest.raises(AssertionError, match="none of the usual"):
            assert_operator(A, s, of=of)


def test_settings_that_are_too_large_to_be_solved_for_are_said():
    rng = np.random.default_rng(0)
    net, labels = models.mlp([2, 3], rng=rng), np.arange(1300) % 3
    s = models.snapshot(net, rng.standard_normal((1300, 2)), labels)
    A = refspec.fisher(s).matrix()
    with pytest.raises(AssertionError, match="none of the usual") as error:
        assert_operator(A + np.diag(np.arange(9.0)), s)
    lines = [x for x in str(error.value).splitlines() if "not tried" in x]
    assert [x.split()[2] for x in lines] == ["Monte-Carlo", "weights"]
    assert "N(C - 1) = 2400, here 2600" in lines[0]
    assert "N = 45, here 1300" in lines[1]


def rst_snapshot():
    layer = refspec.Layer("fc", np.ones((2, 1, 1)), np.ones((2, 2, 1, 2)))
    return refspec.snapshot([layer], [0, 1], logits=np.zeros((2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("name", refspec.datasets.names())
def test_real_networks(name):
    """Stored in float32, fitted to zero error or not: right passes, wrong is named."""
    s = getattr(refspec.datasets, name)()
    layer = s.layers[-1].name
    fisher = refspec.curvature.fisher(s, [layer])
    own = refspec.curvature.empirical_fisher(s, [layer])
    samples = len(s.labels)
    assert_operator(fisher.matvec, s, layer=layer)
    assert_operator(own.matvec, s, layer=layer, of="empirical_fisher")
    mistakes = (
        ("empirical Fisher", own.matvec),
        ("factor N", lambda v: samples * fisher.matvec(v)),
        ("empirical Fisher, factor N", lambda v: samples * own.matvec(v)),
        ("factor 1/2", lambda v: fisher.matvec(v) / 2),
    )
    few = fisher.shape[1] > 1000  # a diagnosis makes every candidate
    for told, wrong in mistakes[: 1 if few else None]:
        with pytest.raises(AssertionError) as error:
            assert_operator(wrong, s, layer=layer)
        assert told in names_of(error)


@settings(max_examples=15)
@given(rst.snapshots(scored=None, allow_tiny=False, allow_zero=False))
def test_every_snapshot_agrees_with_itself(snapshot):
    """Fisher and KFAC by einsum, from any data; twice of it is refused."""
    p = snapshot.sample_weights[:, None] * snapshot.probabilities
    g = np.concatenate(
        [
            np.einsum("nctb,nta->ncba", x.errors, x.features).reshape(*p.shape, -1)
            for x in snapshot.layers
        ],
        axis=2,
    )
    F = np.einsum("nc,ncp,ncq->pq", p, g, g)
    if not F.any():
        return
    assert_operator(F, snapshot)
    with pytest.raises(AssertionError):
        assert_operator(2 * F, snapshot)
