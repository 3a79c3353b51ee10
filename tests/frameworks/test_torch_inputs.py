"""What people feed the PyTorch exporter: right by the definition, or a sentence.

Right means: the Fisher information of the export is sum_n s_n J_n'(diag p - pp')J_n, J
by torch's autograd in float64, within the rounding of P N C sums of it.
"""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from torch import nn
from torch.nn.functional import batch_norm, linear
from torch.nn.utils import parametrizations, weight_norm

from refspec import coverage, curvature, export, rounding
from refspec.exporters.torch import export as export_torch
from refspec.testing import assert_operator

N, C = 12, 3
LABELS = torch.arange(N) % C
EXACT = 2.0**-53


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    kind = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(kind)


def inputs(*shape):
    return torch.randn(N, *shape)


def net(forward, kind=nn.Linear, a=3, b=C):
    """A module of one map w, without bias, and a forward pass of one's choice."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = kind(a, b, bias=False)

    Net.forward = forward
    return Net()


def plain():
    return net(lambda m, x: m.w(x))


def deep():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, C))


def definition(logits, parameters, s):
    """sum_n s_n J_n'(diag p - pp')J_n, the weights by rows and then the bias."""

    def of(*given):
        return logits(dict(zip(parameters, given, strict=True)))

    values = tuple(x.detach().clone() for x in parameters.values())
    p = torch.softmax(of(*values), 1)
    parts = torch.autograd.functional.jacobian(of, values)
    J = torch.cat([x.reshape(*p.shape, -1) for x in parts], 2)
    S = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("n,ncp,ncd,ndq->pq", s, J, S, J).numpy()


def truth(model, call, s=None, of=lambda z: z):
    model = copy.deepcopy(model).eval()
    s = torch.full((N,), 1 / N) if s is None else s

    def logits(values):
        return of(torch.func.functional_call(model, values, *call))

    return definition(logits, dict(model.named_parameters()), s)


def is_right(model, made, right):
    """Compare the export's Fisher with the definition, in torch's order."""
    order = []
    for layer, (_, module) in zip(made.layers, modules(model), strict=True):
        a, b = layer.features.shape[2], layer.errors.shape[3]
        places = np.arange(a * b).reshape(b, a) + sum(map(len, order))
        bias = module.bias is not None
        order += [places[:, : a - bias].ravel(), places[:, a - bias :].ravel()]
    order = np.concatenate(order)
    found = np.asarray(curvature.fisher(made).matrix())[np.ix_(order, order)]
    k = right.size * made.probabilities.size
    return np.linalg.norm(found - right) <= rounding.gamma(k, EXACT) * np.linalg.norm(
        right
    )


def modules(model):
    return [(k, m) for k, m in model.named_modules() if isinstance(m, nn.Linear)]


def exported(model, loader, **how):
    return export_torch(model, loader, None, progress=False, **how)


# --- what was wrong without a word (R1 to R4, R6) -------------------------------------


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Same(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 0


def hooked():
    model = plain()
    model.w.register_forward_hook(lambda *given: 2 * given[-1])
    return model


def tied_functionally():
    return net(lambda m, x: linear(torch.tanh(m.w(x)), m.w.weight))


def time_first():
    return net(lambda m, x: torch.tanh(m.w(x.transpose(0, 1))).mean(0))


def mixed():
    return net(lambda m, x: batch_norm(m.w(x), None, None, training=True))


def mixed_at_first():
    return net(lambda m, x: m.w(x - x.mean(0).detach()))


def mixed_a_little():
    return net(lambda m, x: m.w(x) + 1e-6 * torch.tanh(m.w(x)).mean(0))


def by_chance():
    return net(lambda m, x: m.w(nn.functional.dropout(x, 0.5, training=True)))


WRONG = {
    "R1 a subclass": (lambda: net(lambda m, x: m.w(x), Doubled), (3,), N, "'w'"),
    "R1b a hook": (hooked, (3,), N, "'w'"),
    "R2 used again": (tied_functionally, (3,), N, "'w'"),
    "R3 time first": (time_first, (4, 3), 4, "'w'"),
    "R3 time first, another batch": (time_first, (4, 3), 6, "'w'"),
    "R4 samples mixed": (mixed, (3,), N, "'w'"),
    "R4 samples mixed, small batches": (mixed, (3,), 4, "'w'"),
    "mixed before the first layer": (mixed_at_first, (3,), N, "each sample by itself"),
    "mixed a little": (mixed_a_little, (3,), N, "'w'"),
    "random": (by_chance, (3,), N, "each sample by itself"),
    "R6 probabilities": (
        lambda: nn.Sequential(nn.Linear(3, C), nn.Softmax(1)),
        (3,),
        N,
        "take the softmax off",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_was_wrong_is_refused_by_name(case):
    make, shape, size, message = WRONG[case]
    X = inputs(*shape)
    loader = [(X[i : i + size], LABELS[i : i + size]) for i in range(0, N, size)]
    with pytest.raises(ValueError, match=message) as refused:
        exported(make(), loader)
    assert "exclude=['w']" in str(refused.value) or "'w'" not in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fault_that_comes_later_is_seen(dtype):
    """The second batch of a stream is checked too."""
    model = net(lambda m, x: m.w(x) if len(x) == 4 else m.w(x) * m.w.weight.sum())
    X = inputs(3)
    batches = [(X[:4], LABELS[:4]), (X[4:], LABELS[4:])]
    with pytest.raises(ValueError, match=r"'w' .* in batch 1"):
        exported(model, iter(batches), dtype=dtype)


def test_a_subclass_that_computes_the_same_is_exported():
    model, X = net(lambda m, x: m.w(x), Same), inputs(3)
    assert is_right(model, exported(model, [(X, LABELS)]), truth(model, (X,)))


def test_a_model_of_one_batch_size_is_checked_on_the_whole_batch():
    model, X = net(lambda m, x: m.w(x.reshape(N, 3))), inputs(3)
    assert is_right(model, exported(model, [(X, LABELS)]), truth(model, (X,)))
    doubled = net(lambda m, x: 2 * m.w(x.reshape(N, 3)), Doubled)
    with pytest.raises(ValueError, match="'w'"):
        exported(doubled, [(X, LABELS)])


# --- R5: a column of ones is no bias --------------------------------------------------


def test_a_column_of_ones_is_no_bias():
    model, X = plain(), inputs(3)
    X[:, -1] = 1
    made = exported(model, [(X, LABELS)])
    assert coverage.biases(made) == {"w": False}
    right = truth(model, (X,))
    assert_operator(right, made, order="torch")
    with pytest.raises(AssertionError):  # the mutant: the order that a bias would have
        assert_operator(right[[0, 1, 3, 4, 6, 7, 2, 5, 8]], made, order="torch")
    both = deep()
    assert coverage.biases(exported(both, [(X, LABELS)])) == {"0": True, "2": True}


# --- batches and outputs of many kinds ------------------------------------------------

X, M = torch.randn(N, 3, dtype=torch.float64), torch.ones(N, 3, dtype=torch.float64)
OUTPUT = {
    "a tensor": lambda z: z,
    "a mapping": lambda z: {"loss": None, "logits": z},
    "an output object": lambda z: SimpleNamespace(logits=z),
}


def named(m, x, mask=None):
    return m.w(x if mask is None else x * mask)


KINDS = {
    "R7 a mapping, one argument": (lambda m, d: m.w(d["x"]), {"x": X}, ({"x": X},)),
    "R7 two inputs, one argument": (lambda m, d: m.w(d[0]), (X, X), ((X, X),)),
    "a mapping, by name": (named, {"x": X, "mask": M}, (X, M)),
    "a tuple, by place": (named, (X, M), (X, M)),
    "a list, as torch collates": (named, [X, M], (X, M)),
    "arrays by name": (named, {"x": X.numpy(), "mask": M.numpy()}, (X, M)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_many_kinds(kind):
    forward, given, call = KINDS[kind]
    model = net(forward)
    right = truth(model, (call,))
    assert is_right(model, exported(model, [(given, LABELS)]), right)


@pytest.mark.parametrize("kind", OUTPUT)
def test_outputs_of_many_kinds(kind):
    model = net(lambda m, x: OUTPUT[kind](m.w(x)))
    made = exported(model, [(X, LABELS)])
    assert is_right(model, made, truth(plain_of(model), (X,)))


def plain_of(model):
    other = plain()
    other.load_state_dict(model.state_dict())
    return other


def test_a_mapping_with_labels_is_a_batch():
    model = net(named)
    made = exported(model, [{"x": X, "mask": M, "labels": LABELS}])
    assert is_right(model, made, truth(model, ((X, M),)))


def test_labels_may_be_names_of_classes():
    words = np.array(["cat", "dog", "eel"])[LABELS]
    names = ["cat", "dog", "eel"]
    made = exported(plain(), [(X, words)], class_names=names)
    assert np.array_equal(np.bincount(made.labels), [4, 4, 4])
    assert made.provenance["class_names"] == names
    with pytest.raises(ValueError, match="give class_names"):
        exported(plain(), [(X, words)])
    with pytest.raises(ValueError, match=r"got \['dog'\]"):
        exported(plain(), [(X, words)], class_names=["cat", "emu", "eel"])


def test_some_of_the_classes():
    model, two = plain(), LABELS[LABELS > 0]
    some = X[LABELS > 0]
    made = exported(model, [(some, two % 2)], classes=[2, 1], class_names=["c", "b"])
    s = torch.full((len(some),), 1 / len(some))
    right = truth(model, (some,), s, lambda z: z[:, [2, 1]])
    assert made.probabilities.shape == (8, 2)
    assert made.model is None
    assert is_right(model, made, right)
    for bad in ([0], [0, 3], [1, 1], "01"):
        with pytest.raises((ValueError, TypeError), match="classes"):
            exported(model, [(X, LABELS)], classes=bad)


def test_one_logit_is_two():
    model, y = net(lambda m, x: m.w(x), b=1), LABELS % 2
    right = truth(model, (X,), None, lambda z: torch.cat([0 * z, z], 1))
    assert is_right(model, exported(model, [(X, y)]), right)
    flat = net(lambda m, x: m.w(x)[:, 0], b=1)
    flat.load_state_dict(model.state_dict())
    assert is_right(model, exported(flat, [(X, y)]), right)
    chain = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    assert exported(chain, [(X, y)]).model is None


@pytest.mark.parametrize("kind", [".npz", ".zarr"])
def test_weights_of_samples_and_classes(tmp_path, kind):
    model, s, w = deep(), torch.rand(N) + 0.1, [1.0, 0.25, 4.0]
    loader = [(X[i : i + 5], LABELS[i : i + 5]) for i in range(0, N, 5)]
    for given, each in ((None, s), (w, s * torch.tensor(w)[LABELS])):
        how = {"class_weights": given, "sample_weights": s, "progress": False}
        made = export.load(export_torch(model, loader, tmp_path / f"r{kind}", **how))
        order = np.argsort(LABELS.numpy(), kind="stable")
        right = (each / each.sum())[order].numpy()
        off = np.abs(made.sample_weights - right).max()
        assert off <= rounding.gamma(2 * N, EXACT)
        assert is_right(model, made, truth(model, (X,), each / each.sum()))
    alone = exported(model, [(X, LABELS)], class_weights=w)
    each = torch.tensor(w)[LABELS]
    assert is_right(model, alone, truth(model, (X,), each / each.sum()))
    for bad in ([1.0, 2.0], [1, -1, 1], [1, np.nan, 1], "abc"):
        with pytest.raises(ValueError, match="class_weights must be"):
            exported(model, [(X, LABELS)], class_weights=bad)
    for bad in (s[:3], torch.ones(N + 1), -s, s * np.inf):
        with pytest.raises(ValueError, match="sample_weights must"):
            exported(model, [(X, LABELS)], sample_weights=bad)
    with pytest.raises(ValueError, match="a finite sum > 0"):
        exported(model, [(X, LABELS)], sample_weights=0 * s)


def test_ignored_labels_are_left_out():
    model, y = deep(), LABELS.clone()
    y[4:9] = -100
    made = exported(
        model, [(X[:5], y[:5]), (X[5:8], y[5:8]), (X[8:], y[8:])], ignore_index=-100
    )
    kept = y >= 0
    s = torch.full((int(kept.sum()),), 1 / int(kept.sum()))
    assert is_right(model, made, truth(model, (X[kept],), s))
    assert len(made.model.inputs) == len(s)
    with pytest.raises(ValueError, match="ignore_index=-100"):
        exported(model, [(X, y)])
    with pytest.raises(ValueError, match="check ignore_index"):
        exported(model, [(X, y * 0)], ignore_index=0)


class Attending(nn.Module):
    """Tokens that look at each other, and logits for each."""

    def __init__(self):
        super().__init__()
        self.w, self.z = nn.Linear(3, 3), nn.Linear(3, C)

    def forward(self, x):
        h = torch.tanh(self.w(x))
        return self.z(torch.softmax(h @ h.transpose(1, 2), 2) @ h)


@pytest.mark.parametrize("size", [N, 5])
def test_tokens_are_samples(size):
    T, model = 4, Attending()
    X, y = torch.randn(N, T, 3), torch.randint(0, C, (N, T))
    y[0] = torch.tensor([0, 1, 2, -100])
    y[3, 1] = y[5, :] = -100
    batches = [(X[i : i + size], y[i : i + size]) for i in range(0, N, size)]
    made = exported(model, batches, ignore_index=-100)
    s = (y >= 0).reshape(-1).double()
    right = truth(model, (X,), s / s.sum(), lambda z: z.reshape(N * T, C))
    assert len(made.labels) == int(s.sum())
    assert is_right(model, made, right)
    # of one label a sequence there are no logits (batch, C)
    with pytest.raises(ValueError, match=r"\(batch, C\)"):
        exported(model, [(X, LABELS)])


# --- wrapped models and other precisions ----------------------------------------------


# what torch's compiler imports
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_wrapped_models_are_those_within():
    model = deep()
    right = truth(model, (X,))
    for wrapped in (
        nn.DataParallel(model),
        torch.compile(model),
        torch.compile(nn.DataParallel(model)),
    ):
        made = exported(wrapped, [(X, LABELS)])
        assert [x.name for x in made.layers] == ["0", "2"]
        assert is_right(model, made, right)
    inside = copy.deepcopy(model)
    inside.compile()
    assert is_right(model, exported(inside, [(X, LABELS)]), right)


OF_OTHERS = {
    "R7 pruned": lambda m: torch.nn.utils.prune.l1_unstructured(m, "weight", 0.3),
    "a pruned bias": lambda m: torch.nn.utils.prune.l1_unstructured(m, "bias", 1),
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("case", OF_OTHERS)
def test_a_weight_made_of_others_is_refused_by_name(case):
    model = deep()
    OF_OTHERS[case](model[0])
    for dtype in (None, torch.float64):
        with pytest.raises(ValueError, match=r"'0' makes its (weight|bias) of other"):
            exported(model, [(X, LABELS)], dtype=dtype)
    made = exported(model, [(X, LABELS)], exclude=["0"])
    assert sum(coverage.of_snapshot(made).left_out.values()) >= 16
    assert made.model is None


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_old_weight_norm_is_refused_by_name():
    model = deep()
    weight_norm(model[0])
    for dtype in (None, torch.float32):
        with pytest.raises(ValueError, match=r"'0' makes its weight of other"):
            exported(model, [(X, LABELS)], dtype=dtype)


def test_automatic_casting_is_off():
    model = deep().float()
    right = exported(model, [(X, LABELS)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = exported(model, [(X, LABELS)])
    for one, other in zip(made.layers, right.layers, strict=True):
        assert np.array_equal(one.errors, other.errors)

    def casting(m, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.w(x).float()

    with pytest.raises(ValueError, match=r"'w' computes in torch\.bfloat16"):
        exported(net(casting).float(), [(X, LABELS)])


def test_frozen_models_are_checked_and_stay_frozen():
    for flag in (True, False):
        model = net(lambda m, x: m.w(x), Doubled).requires_grad_(flag)
        with pytest.raises(ValueError, match="'w'"):
            exported(model, [(X, LABELS)])
        assert model.w.weight.requires_grad is flag


# --- what has no class structure ------------------------------------------------------

SEVERAL = torch.eye(C)[LABELS] + torch.eye(C)[(LABELS + 1) % C]
NO_CLASSES = {
    "several labels": (plain, SEVERAL.long()),
    "soft labels": (plain, torch.full((N, C), 1 / C)),
    "regression": (plain, torch.randn(N, C)),
    "regression of one": (lambda: net(lambda m, x: m.w(x), b=1), torch.randn(N, 1)),
    "regression, flat": (lambda: net(lambda m, x: m.w(x)[:, 0], b=1), torch.randn(N)),
}


@pytest.mark.parametrize("case", NO_CLASSES)
def test_what_has_no_class_structure_is_told_what_can_be_done(case):
    make, y = NO_CLASSES[case]
    with pytest.raises(ValueError, match=r"one class for each sample.*features"):
        exported(make(), [(X, y)])


def test_one_hot_labels_and_datasets_get_advice():
    with pytest.raises(ValueError, match="argmax"):
        exported(plain(), [(X, torch.eye(C, dtype=torch.int64)[LABELS])])
    data = torch.utils.data.TensorDataset(X, LABELS)
    with pytest.raises(ValueError, match="a Dataset goes into a DataLoader"):
        exported(plain(), data)


# --- coverage -------------------------------------------------------------------------


def test_what_is_left_out_is_stated():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, C))
    made = exported(model, [(X, LABELS)])
    assert str(coverage.of_snapshot(made)) == (
        "covers 31 of 39 parameters (2 of 3 modules); left out: 1 8"
    )
    part = exported(model, [(X, LABELS)], exclude=["0"])
    assert coverage.of_snapshot(part).left_out == {"0": 16, "1": 8}
    assert coverage.of_snapshot(exported(deep(), [(X, LABELS)])).complete
    for bad in ("0", ["nine"], ["0", "0"], ["0", "2"], None, [7]):
        with pytest.raises((ValueError, TypeError), match="exclude"):
            exported(model, [(X, LABELS)], exclude=bad)


def test_parameters_of_its_own_and_tied_ones_count_once():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(C))
            self.w, self.a = nn.Linear(3, C), nn.Embedding(5, 2)
            self.b = nn.Embedding(5, 2)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.w(x) * self.scale

    made = exported(Scaled(), [(X, LABELS)])
    assert coverage.of_snapshot(made).left_out == {"Scaled": 3, "a": 10}
