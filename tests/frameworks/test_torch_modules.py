"""Every module of torch.nn that has parameters: exported right, left out, or refused.

By differentiation every parameter of each, Fisher and Hessian, against the definition;
of an export what it covers, with KFAC, and nothing is lost: what it covers and what it
says is left out are together all parameters of the model.
"""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from frameworks.comparisons import Case, compare_export, compare_moment
from refspec import coverage
from refspec.exporters.torch import export as export_torch
from refspec.exporters.torch import moment
from support.torch_networks import trained_norms

N, C, D = 6, 3, 4
LABELS = torch.arange(N) % C


class First(nn.Module):
    """The first of several outputs, positions averaged, then a classifier."""

    def __init__(self, module, shape, call=None):
        super().__init__()
        self.given, self.call = module, call or (lambda m, x: m(x))
        x = torch.zeros(2, *shape)
        with torch.no_grad():
            out = self._flat(self.call(module.eval(), x))
        self.last = nn.Linear(out.shape[1], C)

    def _flat(self, out):
        while isinstance(out, tuple):
            out = out[0]
        return out.reshape(len(out), -1)

    def forward(self, x):
        return self.last(self._flat(self.call(self.given, x)))


def tokens(m, x):
    return m((x.abs() * 3).long().clamp(max=4))


def twice(m, x):
    return m(x, x)


def thrice(m, x):
    return m(x, x, x)


def log_prob(m, x):
    return m.log_prob(x)


#: By name: the module, its input, how it is called, and the names exported of it.
CASES = {
    "Linear": (lambda: nn.Linear(D, 5), (D,), None, ["given"]),
    "Bilinear": (lambda: nn.Bilinear(D, D, 5), (D,), twice, []),
    "Conv1d": (lambda: nn.Conv1d(D, 2, 3), (D, 5), None, ["given"]),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 2), (2, 4, 4), None, ["given"]),
    "Conv3d": (lambda: nn.Conv3d(1, 2, 2), (1, 3, 3, 3), None, ["given"]),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(D, 2, 3), (D, 5), None, []),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 2), (2, 3, 3), None, []),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(1, 2, 2), (1, 2, 2, 2), None, []),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(D), (D,), None, []),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), (2, 3, 3), None, []),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(1), (1, 2, 2, 2), None, []),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(D), (D,), None, []),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(D, affine=True), (D, 5), None, []),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(2, affine=True), (2, 3, 3), None, []),
    "InstanceNorm3d": (
        lambda: nn.InstanceNorm3d(1, affine=True),
        (1, 2, 2, 2),
        None,
        [],
    ),
    "GroupNorm": (lambda: nn.GroupNorm(2, D), (D, 5), None, []),
    "LayerNorm": (lambda: nn.LayerNorm(D), (D,), None, []),
    "RMSNorm": (lambda: nn.RMSNorm(D), (D,), None, []),
    "PReLU": (lambda: nn.PReLU(), (D,), None, []),
    "Embedding": (lambda: nn.Embedding(5, 2), (D,), tokens, []),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(5, 2), (D,), tokens, []),
    "RNN": (lambda: nn.RNN(D, 2, batch_first=True), (5, D), None, []),
    "LSTM": (lambda: nn.LSTM(D, 2, batch_first=True), (5, D), None, []),
    "GRU": (lambda: nn.GRU(D, 2, batch_first=True), (5, D), None, []),
    "RNNCell": (lambda: nn.RNNCell(D, 2), (D,), None, []),
    "LSTMCell": (lambda: nn.LSTMCell(D, 2), (D,), None, []),
    "GRUCell": (lambda: nn.GRUCell(D, 2), (D,), None, []),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(D, 2, batch_first=True),
        (5, D),
        thrice,
        [],
    ),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(D, 2, 3, batch_first=True),
        (5, D),
        None,
        ["given.linear1", "given.linear2"],
    ),
    "TransformerDecoderLayer": (
        lambda: nn.TransformerDecoderLayer(D, 2, 3, batch_first=True),
        (5, D),
        twice,
        ["given.linear1", "given.linear2"],
    ),
    "Transformer": (
        lambda: nn.Transformer(D, 2, 1, 1, 3, batch_first=True),
        (5, D),
        twice,
        [
            "given.encoder.layers.0.linear1",
            "given.encoder.layers.0.linear2",
            "given.decoder.layers.0.linear1",
            "given.decoder.layers.0.linear2",
        ],
    ),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(D, 2, 3, batch_first=True), 1
        ),
        (5, D),
        None,
        ["given.layers.0.linear1", "given.layers.0.linear2"],
    ),
    "TransformerDecoder": (
        lambda: nn.TransformerDecoder(
            nn.TransformerDecoderLayer(D, 2, 3, batch_first=True), 1
        ),
        (5, D),
        twice,
        ["given.layers.0.linear1", "given.layers.0.linear2"],
    ),
    "AdaptiveLogSoftmaxWithLoss": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(D, 6, [2, 4], 2.0),
        (D,),
        log_prob,
        ["given.head", *(f"given.tail.{i}.{j}" for i in range(2) for j in range(2))],
    ),
}
#: Exported with every parameter.
WHOLE = ("Linear", "Conv1d", "Conv2d", "Conv3d", "AdaptiveLogSoftmaxWithLoss")
#: What is no part of a classifier, or has no parameters until it is told of some.
OTHERS = {
    "LinearCrossEntropyLoss": "a loss",
    "NLLLoss2d": "a loss",
    "CrossMapLRN2d": "no parameters",
    "Unflatten": "no parameters",
    "Module": "no parameters",
    "ModuleDict": "what is put in",
    "ModuleList": "what is put in",
    "ParameterDict": "what is put in",
    "ParameterList": "what is put in",
    "Sequential": "what is put in",
    "DataParallel": "unwrapped",
    "Container": "what is put in",
    "RNNBase": "abstract",
    "RNNCellBase": "abstract",
}
#: Arguments that make something of a class, to see whether it has parameters.
TRIES = [(), (4,), (2, 4), (4, 4, 3), (4, 2, 2), (4, 4, 4)]


def built(kind):
    for given in TRIES:
        try:
            return kind(*given)
        except Exception:
            continue
    return None


def test_no_module_of_torch_is_forgotten():
    kinds = {
        name: x
        for name, x in vars(nn).items()
        if inspect.isclass(x) and issubclass(x, nn.Module)
    }
    unknown = kinds.keys() - CASES.keys() - OTHERS.keys()
    lazy = {x for x in unknown if x.startswith("Lazy")}
    made = {name: built(kinds[name]) for name in unknown - lazy}
    holding = {k for k, m in made.items() if m is None or list(m.parameters())}
    assert not holding


@pytest.mark.filterwarnings("ignore:.*nested tensor.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*no_sync.*:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_what_is_covered_and_what_is_left_out_are_all(name):
    torch.manual_seed(0)
    make, shape, call, expected = CASES[name]
    model = First(make(), shape, call)
    made = export_torch(model, [(torch.randn(N, *shape), LABELS)], None)
    assert [x.name for x in made.layers] == [*expected, "last"]
    seen = coverage.of_snapshot(made)
    own = sum(x.numel() for x in model.parameters())
    assert seen.parameters + sum(seen.left_out.values()) == own
    assert seen.complete is (name in WHOLE)
    for layer in made.layers:
        module = model.get_submodule(layer.name)
        assert coverage.biases(made)[layer.name] is (module.bias is not None)
        assert np.all(np.isfinite(layer.errors))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_the_definition(name):
    torch.manual_seed(0)
    make, shape, call, _ = CASES[name]
    model = trained_norms(First(make(), shape, call)).double().eval()
    given = Case(model, torch.randn(N, *shape), LABELS)
    found = compare_moment(given)
    assert found.moment.coverage.complete
    if name == "EmbeddingBag":  # which torch can differentiate once
        assert "'_embedding_bag_backward' is not implemented" in found.hessian
    pairs = found.pairs + compare_export(given).pairs
    assert len(pairs) >= 4 + (name != "EmbeddingBag")
    assert all(off <= bound < 2.0**-20 for off, bound in pairs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["LinearCrossEntropyLoss", "NLLLoss2d"])
def test_a_loss_in_place_of_a_classifier_is_refused(kind):
    if not hasattr(nn, kind):
        pytest.skip(f"no {kind} in this torch")
    loss = getattr(nn, kind)(*([D, C] if kind.startswith("Linear") else []))
    model = nn.Sequential(nn.Linear(D, D), loss)
    for door in (moment, export_torch):
        how = {} if door is moment else {"path": None}
        with pytest.raises(ValueError, match="model must take the inputs"):
            door(model, [(torch.randn(N, D), LABELS)], **how)


@pytest.mark.parametrize("groups", [2, 4])
def test_convolutions_in_groups_are_left_out_and_said(groups):
    model = First(nn.Conv1d(D, D, 3, groups=groups), (D, 5))
    batch = torch.randn(N, D, 5), LABELS
    made = export_torch(model, [batch], None)
    weights = D * D // groups * 3 + D
    assert coverage.of_snapshot(made).left_out == {"given": weights}
    with pytest.raises(
        ValueError, match=f"'given' is a convolution of {groups} groups"
    ):
        export_torch(model, [batch], None, layers=["given"])


def test_batch_statistics_and_lazy_modules_are_refused():
    batch = torch.randn(N, D), LABELS
    for module in (nn.BatchNorm1d(D, track_running_stats=False),):
        with pytest.raises(ValueError, match="'given' normalises over the batch"):
            export_torch(First(module, (D,)), [batch], None)
    for module in (nn.LazyLinear(D), nn.LazyBatchNorm1d()):
        model = nn.Sequential(nn.Linear(D, C), module)
        with pytest.raises(ValueError, match="'1' is lazy"):
            export_torch(model, [batch], None)
