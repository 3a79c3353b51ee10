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
from refspec.models import evaluation
from refspec.testing import assert_operator

LABELS = np.repeat(np.arange(3), [5, 3, 4])
N, C = 12, 3


def network(kind, activation="tanh"):
    rng = np.random.default_rng(0)
    if kind == "mlp":
        net, X = models.mlp([3, 4, C], activation, rng=rng), rng.normal(size=(N, 3))
    else:
        net = models.cnn((1, 4, 4), [2], C, activation=activation, rng=rng)
        X = rng.normal(size=(N, 1, 4, 4))
    vector = models.flatten(net)
    return models.unflatten(net, vector + 0.3 * rng.normal(size=vector.shape)), X


class Dense:
    """What somebody's library would compute, as matrices."""

    def __init__(self, kind):
        self.net, self.X = network(kind)
        self.snapshot = models.snapshot(self.net, self.X, LABELS)
        self.p = self.snapshot.probabilities
        self.s = np.full(N, 1 / N)
        self.layers = {x.name: (x.features, x.errors) for x in self.snapshot.layers}
        self.rng = np.random.default_rng(1)

    def jacobians(self):
        """J'e_c of each layer: errors back from unit vectors."""
        steps, f = evaluation.forward(self.net, self.X)
        seeds = np.tile(np.eye(C), (len(f), 1, 1))
        return {x.name: d for x, d in evaluation.backpropagate(steps, seeds, np)}

    def gradients(self, errors=None, names=None):
        """Gradients (N, C, P), errors (x) features."""
        parts = []
        for name in names or self.layers:
            h, d = self.layers[name]
            d = d if errors is None else errors[name]
            g = np.einsum("nctb,nta->ncba", d, h)
            parts.append(g.reshape(*g.shape[:2], -1))
        return np.concatenate(parts, axis=2)

    def fisher(self, w=None, errors=None, names=None):
        g = self.gradients(errors, names)
        w = self.s[:, None] * self.p if w is None else w
        return np.einsum("nc,ncp,ncq->pq", w, g, g)

    def own(self):
        return self.s[:, None] * np.eye(C)[LABELS]

    def drawn(self, M):
        p = self.p / self.p.sum(axis=1, keepdims=True)
        return self.s[:, None] * np.array([self.rng.multinomial(M, x) / M for x in p])

    def factors(self, name, left="expand", right="expand", w=None, errors=None):
        h, d = self.layers[name]
        d = d if errors is None else errors[name]
        w = self.s[:, None] * self.p if w is None else w
        T = h.shape[1]
        if left == "reduce":
            d = d.sum(axis=2, keepdims=True)
        if right == "reduce":
            h = h.mean(axis=1, keepdims=True)
        H = np.einsum("n,nta,ntb->ab", self.s, h, h) / h.shape[1]
        assert h.shape[1] <= T
        return np.einsum("nc,ncta,nctb->ab", w, d, d), H

    def kfac(self, *args, **kwargs):
        return [np.kron(*self.factors(x, *args, **kwargs)) for x in self.layers]

    def swap(self, A):
        """The same operator, features (x) errors: every layer's factors transposed."""
        places, start = [], 0
        for h, d in self.layers.values():
            b, a = d.shape[3], h.shape[2]
            places.append(start + np.arange(a * b).reshape(b, a).T.ravel())
            start += a * b
        places = np.concatenate(places)
        return A[np.ix_(places, places)]

    def biases(self):
        parts = [
            np.tile(np.arange(h.shape[2]) == h.shape[2] - 1, d.shape[3])
            for h, d in self.layers.values()
        ]
        return np.concatenate(parts)


def blocks(parts):
    return scipy.linalg.block_diag(*parts)


def without(A, mask):
    return np.where(mask[:, None] | mask[None, :], 0, A)


def apart(A, mask):
    return np.where(mask[:, None] == mask[None, :], A, 0)


def backwards(case, A):
    """Blocks in the reverse order of the layers."""
    sizes = [h.shape[2] * d.shape[3] for h, d in case.layers.values()]
    ends = np.cumsum([0, *sizes])
    index = [np.arange(ends[k], ends[k + 1]) for k in range(len(sizes))][::-1]
    index = np.concatenate(index)
    return A[np.ix_(index, index)]


CASES = {"mlp": Dense("mlp"), "cnn": Dense("cnn")}

#: name of the mistake in the diagnosis, and the operator that makes it.
FISHER = {
    "factor N": lambda c: N * c.fisher(),
    "factor 1/N": lambda c: c.fisher() / N,
    "factor NC": lambda c: N * C * c.fisher(),
    "factor 1/C": lambda c: c.fisher() / C,
    "factor C": lambda c: C * c.fisher(),
    "factor C - 1": lambda c: (C - 1) * c.fisher(),
    "factor 1/(C - 1)": lambda c: c.fisher() / (C - 1),
    "factor C/(C - 1)": lambda c: c.fisher() * C / (C - 1),
    "factor (C - 1)/C": lambda c: c.fisher() * (C - 1) / C,
    "factor N/(N - 1)": lambda c: c.fisher() * N / (N - 1),
    "factor 2": lambda c: 2 * c.fisher(),
    "factor 1/2": lambda c: c.fisher() / 2,
    "sign": lambda c: -c.fisher(),
    "empirical Fisher": lambda c: c.fisher(c.own()),
    "empirical Fisher, factor N": lambda c: N * c.fisher(c.own()),
    "missing centring": lambda c: c.fisher(errors=c.jacobians()),
    "uniform labels": lambda c: c.fisher(np.full((N, C), 1 / N / C)),
    "order column_stacked": lambda c: c.swap(c.fisher()),
    "order column_stacked, factor 2": lambda c: 2 * c.swap(c.fisher()),
    "bias left out": lambda c: without(c.fisher(), c.biases()),
    "bias apart": lambda c: apart(c.fisher(), c.biases()),
    "layer order": lambda c: backwards(c, c.fisher()),
    "block-diagonal": lambda c: blocks([c.fisher(names=[x]) for x in c.layers]),
    "Hessian": lambda c: hessian.hessian(c.net, c.X, LABELS),
    "KFAC": lambda c: blocks(c.kfac()),
    "Monte-Carlo labels": lambda c: c.fisher(c.drawn(1)),
    "Monte-Carlo labels ": lambda c: c.fisher(c.drawn(3)),
}
KFAC = {
    "factor N": lambda c: N * blocks(c.kfac()),
    "factor 1/N": lambda c: blocks(c.kfac()) / N,
    "factor C - 1": lambda c: (C - 1) * blocks(c.kfac()),
    "factor 2": lambda c: 2 * blocks(c.kfac()),
    "empirical Fisher": lambda c: blocks(c.kfac(w=c.own())),
    "missing centring": lambda c: blocks(c.kfac(errors=c.jacobians())),
    "order column_stacked": lambda c: blocks(
        [np.kron(*c.factors(x)[::-1]) for x in c.layers]
    ),
    "bias left out": lambda c: without(blocks(c.kfac()), c.biases()),
    "bias apart": lambda c: apart(blocks(c.kfac()), c.biases()),
    "layer order": lambda c: blocks(c.kfac()[::-1]),
    "Monte-Carlo labels": lambda c: blocks(c.kfac(w=c.drawn(1))),
    "Gauss-Newton blocks": lambda c: blocks([c.fisher(names=[x]) for x in c.layers]),
}
POSITIONS = {
    "setting reduce": lambda c: blocks(c.kfac("reduce", "reduce")),
    "errors reduce, features expand": lambda c: blocks(c.kfac("reduce", "expand")),
    "errors expand, features reduce": lambda c: blocks(c.kfac("expand", "reduce")),
    "factor T": lambda c: 16 * np.kron(*c.factors("conv1")),
    "factor 1/T": lambda c: np.kron(*c.factors("conv1")) / 16,
}


def names_of(error):
    """The bracketed names of the mistakes that the message gives."""
    lines = str(error.value).splitlines()
    found = [x for x in lines if x.strip().startswith("diagnosis") and "[" in x]
    return [x.rsplit("[", 1)[1].split(";")[0].rstrip("]") for x in found]


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


@pytest.mark.parametrize("name", FISHER)
@pytest.mark.parametrize("kind", CASES)
def test_mistakes_in_the_fisher_are_named(kind, name):
    case = CASES[kind]
    with pytest.raises(AssertionError) as error:
        assert_operator(FISHER[name](case), case.snapshot)
    assert name.strip() in names_of(error)


@pytest.mark.parametrize("name", KFAC)
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
def test_the_gauss_newton_matrix_is_not_the_hessian(kind):
    case = CASES[kind]
    with pytest.raises(AssertionError) as error:
        assert_operator(case.fisher(), case.snapshot, of="hessian")
    assert "Gauss-Newton" in names_of(error)


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
