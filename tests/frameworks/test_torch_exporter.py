"""The PyTorch exporter against torch's own per-sample gradients.

Errors and features of an export, multiplied out, must be the gradients that
``vmap(grad)`` gives for ``-log_softmax(logits)[c']`` in float64. The bound is computed
by a twin of the network: absolute weights, activations that pass magnitudes on and
whose slope 1 + A covers the slope and its change (|s| <= 1 and |s'| <= 1 for tanh,
relu), so its gradients bound how far one relative rounding of anything can reach.
"""

import copy
import dataclasses
import io
import os
import re
import sys

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from refspec import export, models, rounding
from refspec.export import containers
from refspec.exporters import delivery as exporter
from refspec.exporters.torch import export as export_torch
from refspec.models import recompute

# torch says that an even kernel pads unevenly: that is what "conv1d" is there for
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")

UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
LABELS = torch.tensor([2, 0, 1, 0, 0, 2, 1, 0])  # unequal classes, not sorted
N, C = len(LABELS), 3


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)


class Mean(nn.Module):
    """Average over positions, (N, T, d) to (N, d)."""

    def forward(self, x):
        return x.mean(dim=1)


class Residual(nn.Module):
    """A graph, not a chain, with an operation in place on a module's output."""

    def __init__(self):
        super().__init__()
        self.fc = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)])
        self.out = nn.Linear(5, C)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = x + self.act(self.fc[0](x))
        return self.out(input=x + self.act(self.fc[1](x)))


MODELS = {
    "mlp": (
        lambda: nn.Sequential(
            nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, C)
        ),
        (5,),
    ),
    "no bias": (
        lambda: nn.Sequential(
            nn.Linear(5, 6, bias=False), nn.Tanh(), nn.Linear(6, C, bias=False)
        ),
        (5,),
    ),
    "graph": (Residual, (5,)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(3, 4, 2, bias=False),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(4, C),
        ),
        (2, 7, 5),
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 4, dilation=3, padding="same"),
            nn.Tanh(),
            nn.Conv1d(3, 2, 3, stride=2, padding="valid"),
            Flat(),
            nn.Linear(6, C),
        ),
        (2, 8),
    ),
    "padded": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 3, padding=2, padding_mode="circular"),
            nn.Tanh(),
            nn.Conv1d(3, 2, 4, padding="same", padding_mode="reflect"),
            nn.Conv1d(2, 2, 3, stride=2, padding=1, padding_mode="replicate"),
            Flat(),
            nn.Linear(10, C),
        ),
        (2, 8),
    ),
    "conv3d": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 2, (2, 1, 3), stride=(1, 2, 1), padding=(0, 1, 2)),
            nn.Tanh(),
            Flat(),
            nn.Linear(48, C),
        ),
        (1, 3, 4, 2),
    ),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), Mean(), nn.Linear(3, C)),
        (6, 4),
    ),
}


def build(name, scale=1.0):
    torch.manual_seed(3)
    make, shape = MODELS[name]
    return make(), scale * torch.randn(N, *shape)


def mapped(model):
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return {k: m for k, m in model.named_modules() if isinstance(m, kinds)}


def rows(parameters, model):
    """Return (N, C, b, a) by layer, the bias as last column, from named gradients."""
    for name, module in mapped(model).items():
        weight = parameters[f"{name}.weight"].flatten(3)
        if module.bias is not None:
            weight = torch.cat([weight, parameters[f"{name}.bias"][..., None]], dim=-1)
        yield weight.numpy()


def per_sample(model, X, seeds=None):
    """Gradients of -log_softmax[c'], or of seeds . logits, by vmap(grad)."""
    parameters = {k: p.detach() for k, p in model.named_parameters()}

    def loss(parameters, x, seed, onehot):
        z = torch.func.functional_call(model, parameters, (x[None],))[0]
        return seed @ z if seeds is not None else -onehot @ torch.log_softmax(z, 0)

    over_c = torch.func.vmap(torch.func.grad(loss), (None, None, 0, 0))
    given = torch.zeros(N, C, C, dtype=X.dtype) if seeds is None else seeds
    over_n = torch.func.vmap(over_c, (None, 0, 0, None))
    return over_n(parameters, X, given, torch.eye(C, dtype=X.dtype))


class Magnitude(nn.Module):
    """Passes A on; its slope is 1 + A."""

    def forward(self, A):
        slope = A + A * A / 2
        return A.detach() + slope - slope.detach()


def absolute(model):
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in twin.parameters():
            p.abs_()
    for name, module in list(twin.named_modules()):
        if isinstance(module, nn.Tanh | nn.ReLU):
            twin.set_submodule(name, Magnitude())
    return twin


def row_bounds(model, X, u):
    """Bound the rounding of every gradient of a float64 model run at roundoff u."""
    twin = absolute(model)
    with torch.no_grad():
        A = twin(X.abs()).amax(dim=1)
        p = torch.softmax(model(X), dim=1)
    # softmax moves by 2 max|z| of the logits' relative change
    seeds = (p[:, None, :] + torch.eye(C, dtype=p.dtype)) * (1 + 2 * A)[:, None, None]
    path = 4 * C + 64 + sum(3 * p.numel() for p in model.parameters())
    k = (len(mapped(model)) + 2) * (path + X[0].numel())
    g = rounding.gamma(k, u)
    return [g * x for x in rows(per_sample(twin, X.abs(), seeds), model)]


def multiplied(snapshot):
    """Return sum_t errors (x) features, (N, C, b, a) by layer."""
    for layer in snapshot.layers:
        e, f = layer.errors, layer.features
        yield np.swapaxes(e, 2, 3) @ f[:, None]


def both_sides(name, dtype):
    model, X = build(name)
    made = export_torch(model, [(X, LABELS)], None, dtype=dtype)
    order = torch.argsort(LABELS, stable=True)
    model, X = copy.deepcopy(model).double(), X[order].double()
    truth = list(rows(per_sample(model, X), model))
    bounds = row_bounds(model, X, UNIT[dtype])
    exact = row_bounds(model, X, UNIT[torch.float64])
    return made, truth, [x + y for x, y in zip(bounds, exact, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_rows_are_torchs_gradients(name, dtype):
    made, truth, bounds = both_sides(name, dtype)
    assert made.provenance["dtype"] == str(dtype).removeprefix("torch.")
    for x, y, bound in zip(multiplied(made), truth, bounds, strict=True):
        assert np.all(np.abs(x - y) <= bound)
        # mutants: another order of the columns, another label, nothing at all
        if x.shape[-1] > 2:
            assert not np.all(np.abs(np.roll(x, 1, axis=-1) - y) <= bound)
        assert not np.all(np.abs(np.roll(x, 1, axis=1) - y) <= bound)
        assert not np.all(np.abs(y) <= bound)


@pytest.mark.parametrize("name", ["mlp", "cnn", "sequence"])
def test_gram_is_that_of_torchs_gradients(name):
    """Gram of the rows sqrt(p/N) g, layers added up by Hadamard products over T."""
    made, truth, bounds = both_sides(name, torch.float64)
    root = np.sqrt(made.probabilities / N).reshape(-1, 1)
    gram = 0.0
    for layer in made.layers:
        f, e = layer.features, layer.errors
        T, b = e.shape[2:]
        features = f.reshape(N * T, -1) @ f.reshape(N * T, -1).T
        errors = e.reshape(N * C * T, b) @ e.reshape(N * C * T, b).T
        features = features.reshape(N, 1, T, N, 1, T)
        product = errors.reshape(N, C, T, N, C, T) * features
        gram = gram + product.sum(axis=(2, 5)).reshape(N * C, N * C)
    gram = root * gram * root.T
    G = root * np.concatenate([x.reshape(N * C, -1) for x in truth], axis=1)
    B = root * np.concatenate([x.reshape(N * C, -1) for x in bounds], axis=1)
    size, u = np.abs(G) + B, UNIT[torch.float64]
    # the summands of the Hadamard form are products of absolute features and errors
    T = max(layer.features.shape[1] for layer in made.layers)
    g = rounding.gamma(2 * G.shape[1] + 2 * T * T + 16, u)
    terms = sum(
        np.abs(root * np.linalg.norm(x.errors, axis=-1).reshape(N * C, -1))
        @ np.repeat(np.linalg.norm(x.features, axis=-1), C, axis=0).T
        for x in made.layers
    ).max()
    bound = B @ size.T + size @ B.T + g * (size @ size.T + terms**2)
    assert np.all(np.abs(gram - G @ G.T) <= bound)
    assert not np.all(np.abs(gram - (G / root) @ G.T) <= bound)  # the mutant: one root


def test_small_errors_keep_relative_accuracy():
    """A saturated network: 1 - p underflows in rounding, the sum of the rest not."""
    model, X = build("mlp")
    with torch.no_grad():
        model[-1].weight *= 60
    made = export_torch(model, [(X, LABELS)], None, dtype=torch.float64)
    order = torch.argsort(LABELS, stable=True)
    z = copy.deepcopy(model).double()(X[order].double()).detach().numpy()
    e = np.exp((z - z.max(axis=1, keepdims=True)).astype(np.longdouble))
    p = e / e.sum(axis=1, keepdims=True)
    exact = np.repeat(p[:, None, :], C, axis=1)
    for c in range(C):
        exact[:, c, c] = -(p.sum(axis=1) - p[:, c])
        exact[:, c, c] = -sum(p[:, j] for j in range(C) if j != c)
    # logits may differ by the batch's rounding, softmax doubles their size
    u = UNIT[torch.float64]
    spread = 1 + 2 * np.abs(z).max()
    bound = np.abs(exact) * np.expm1(rounding.gamma(4 * C + 64, u) * spread)
    errors = made.layers[-1].errors[:, :, 0, :]
    assert np.abs(errors).min() < u
    assert np.all(np.abs(errors - exact) <= bound)
    cancelled = made.probabilities[:, None, :] - np.eye(C)  # the mutant
    assert not np.all(np.abs(cancelled - exact) <= bound)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_given_back_as_it_was(frozen, fails):
    model, X = build("cnn")
    model.append(nn.Sequential(nn.BatchNorm1d(C), nn.Dropout(0.5)))
    model.train()
    model[0].eval()
    model.requires_grad_(not frozen)
    model[2].marker = object()
    if not frozen:
        model[0].weight.grad = torch.ones_like(model[0].weight)
    flags = [m.training for m in model.modules()]
    state = copy.deepcopy(model.state_dict())

    def loader():
        yield X, LABELS
        if fails:
            raise RuntimeError("the disk is gone")

    with torch.no_grad():  # as a caller may have it
        if fails:
            with pytest.raises(RuntimeError, match="the disk is gone"):
                export_torch(model, loader(), None)
        else:
            export_torch(model, loader(), None)
        assert not torch.is_grad_enabled()
    assert [m.training for m in model.modules()] == flags
    assert all(p.requires_grad is not frozen for p in model.parameters())
    for m in model.modules():
        assert not m._forward_hooks
        assert not m._forward_hooks_with_kwargs
    for key, x in model.state_dict().items():
        assert torch.equal(x, state[key])
    grads = [p.grad is not None for p in model.parameters()]
    assert grads == [not frozen] + [False] * (len(grads) - 1)


def test_double_precision_runs_on_a_copy():
    model, X = build("mlp")
    made = export_torch(model, [(X, LABELS)], None, dtype=torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert made.provenance["dtype"] == "float64"
    with pytest.raises(ValueError, match=r"got torch\.float16"):
        export_torch(model, [(X, LABELS)], None, dtype=torch.float16)
    half = export_torch(
        copy.deepcopy(model).bfloat16(), [(X, LABELS)], None, dtype=torch.float32
    )
    assert half.provenance["dtype"] == "float32"
    with pytest.raises(ValueError, match=r"'0' is torch\.bfloat16"):
        export_torch(model.bfloat16(), [(X, LABELS)], None)


def test_files_in_both_kinds_are_the_same(tmp_path):
    model, X = build("cnn")
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(X, LABELS), batch_size=3
    )
    names = ["a", "b", "c"]
    paths = [
        export_torch(model, loader, tmp_path / f"run{kind}", class_names=names)
        for kind in (".npz", ".zarr")
    ]
    assert export.digest(paths[0]) == export.digest(paths[1])
    assert containers.read(paths[0])[0] == containers.read(paths[1])[0]
    assert np.array_equal(containers.read(paths[1])[1]["labels"], LABELS)
    made, memory = export.load(paths[1]), export_torch(model, loader, None)
    for x, y in zip(made.layers, memory.layers, strict=True):
        assert np.array_equal(x.errors, y.errors)
        assert np.array_equal(x.features, y.features)
    assert np.array_equal(made.probabilities, memory.probabilities)
    assert made.provenance["class_names"] == names
    assert made.provenance["framework"] == "torch"
    assert made.provenance["versions"]["torch"] == str(torch.__version__)
    assert made.provenance["loss"] == "cross_entropy"
    assert "Conv2d(2, 3" in made.provenance["architecture"]


@pytest.mark.parametrize("kind", [".npz", ".zarr"])
def test_the_network_gives_again_what_is_not_written(kind, tmp_path):
    """In batches of unsorted labels: the same numbers, of each sample its own."""
    model, X = build("cnn")
    order = [4, 0, 5, 2, 1, 3]
    loader = [(X[order[k : k + 3]], LABELS[order[k : k + 3]]) for k in (0, 3)]
    path = export_torch(model, loader, tmp_path / f"run{kind}", recomputed=True)
    assert not [x for x in containers.read(path)[1] if x.startswith("layers/")]
    memory, made = export_torch(model, loader, None), export.load(path)
    stored = dataclasses.replace(made, layers=memory.layers)
    assert all(x.ratio <= 1 for x in models.recompute(stored))
    assert np.array_equal(made.probabilities, memory.probabilities)


@pytest.mark.parametrize("path", [None, "x.npz"])
def test_what_cannot_be_computed_again_is_written(path, tmp_path):
    model, X = build("cnn")
    model = nn.Sequential(model, nn.LayerNorm(3)).eval()
    where = None if path is None else tmp_path / path
    why = "got no path" if path is None else "got no network, because"
    with pytest.raises(ValueError, match=why):
        export_torch(model, [(X, LABELS)], where, recomputed=True)
    assert not list(tmp_path.iterdir())


def test_layers_are_chosen_by_name(tmp_path):
    model, X = build("mlp")
    made = export_torch(model, [(X, LABELS)], None, layers=["4", "0"])
    assert [x.name for x in made.layers] == ["4", "0"]
    every = export_torch(model, [(X, LABELS)], None)
    assert np.array_equal(made.layer("0").errors, every.layer("0").errors)
    for bad in (["nine"], [], ["0", "0"], ["1"]):
        with pytest.raises(ValueError, match=r"among \['0', '2', '4'\]"):
            export_torch(model, [(X, LABELS)], tmp_path / "run.npz", layers=bad)
    assert os.listdir(tmp_path) == []


class Wrapped(nn.Module):
    """Two linear maps and a forward pass of one's choice."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, C)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def tied():
    model = Wrapped(lambda m, x: m.b(m.extra(m.a(x))))
    model.extra = nn.Linear(5, 5)
    model.extra.weight = model.a.weight
    return model


def blind(m, x):
    with torch.no_grad():
        h = m.a(x)
    return m.b(h)


REFUSED = {
    "shared": (lambda: Wrapped(lambda m, x: m.b(m.a(m.a(x)))), "'a' is called 2 times"),
    "absent": (lambda: Wrapped(lambda m, x: m.b(x)), "'a' is called 0 times"),
    "aside": (
        lambda: Wrapped(lambda m, x: (m.a(x), m.b(x))[1]),
        "'a' does not reach the logits",
    ),
    "blind": (lambda: Wrapped(blind), "'a' does not reach the logits"),
    "tied": (tied, "'a' shares a parameter"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(C)), "'0' is lazy"),
    "turned": (
        lambda: Wrapped(lambda m, x: m.b(m.a(x[None]).squeeze(0))),
        "'a' does not see the batch on its first axis",
    ),
    "single": (
        lambda: Wrapped(lambda m, x: torch.stack([m.b(row) for row in x])),
        "'b' is given one sample",
    ),
    "batch norm": (
        lambda: nn.Sequential(
            nn.Linear(5, C), nn.BatchNorm1d(C, track_running_stats=False)
        ),
        "'1' normalises over the batch",
    ),
    "one logit": (lambda: nn.Linear(5, 1), r"0\.\.1, got 0\.\.2"),
    "image": (
        lambda: Wrapped(lambda m, x: m.b(m.a(x))[:, :, None]),
        r"\(batch, C\) with batch = 8, .*got \(8, 3, 1\)",
    ),
    "tuple": (lambda: Wrapped(lambda m, x: (m.b(m.a(x)),)), "as `logits`, got tuple"),
    "none": (lambda: nn.Sequential(nn.Flatten()), "layers that can be exported"),
    "diverged": (
        lambda: Wrapped(lambda m, x: m.b(m.a(x * torch.inf))),
        r"logits \(layers are \['a', 'b'\]\) must be finite, got nan",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refusals_name_the_module(tmp_path, case):
    make, message = REFUSED[case]
    X = torch.randn(N, 5)
    model = make()
    for kind in (".npz", ".zarr"):
        with pytest.raises(ValueError, match=message):
            export_torch(model, [(X, LABELS)], tmp_path / f"run{kind}")
    assert os.listdir(tmp_path) == []
    assert all(not m._forward_hooks for m in model.modules())


def test_a_refused_module_can_be_left_out():
    model, X = Wrapped(lambda m, x: m.b(m.a(m.a(x)))), torch.randn(N, 5)
    made = export_torch(model, [(X, LABELS)], None, layers=["b"])
    assert [x.name for x in made.layers] == ["b"]


def test_bad_batches(tmp_path):
    model, X = build("mlp")
    for loader, message in [
        ([], "at least one batch"),
        ([(X, LABELS - 1)], r"0\.\.2, got -1\.\.1 in batch 0"),
        ([(X, LABELS), (X, LABELS + 1)], r"0\.\.2, got 1\.\.3 in batch 1"),
        ([(X, LABELS.double())], "got float64"),
        ([(X, LABELS[:3])], r"\(batch,\) = \(8,\), got int64 of shape \(3,\)"),
        ([(X, LABELS), (X[:0], LABELS[:0])], "batch 1 must hold a sample"),
    ]:
        with pytest.raises(ValueError, match=message):
            export_torch(model, loader, tmp_path / "run.zarr")
    ragged, _ = build("sequence")
    X_mlp, X = X, torch.randn(N, 6, 4)
    with pytest.raises(containers.ExportError, match=r"layers/0/features: .*\(5, 5\)"):
        export_torch(ragged, [(X, LABELS), (X[:, :5], LABELS)], tmp_path / "run.npz")
    with pytest.raises(containers.ExportError, match="expected C = 3 class_names"):
        export_torch(model, [(X_mlp, LABELS)], None, class_names=["a"])
    assert os.listdir(tmp_path) == []


def test_no_progress_bar_when_piped(capfd, tmp_path):
    model, X = build("mlp")
    export_torch(model, [(X, LABELS)], tmp_path / "run.npz")
    assert capfd.readouterr() == ("", "")


def test_a_progress_bar_on_a_terminal(monkeypatch):
    model, X = build("mlp")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True)
    monkeypatch.setattr(exporter, "Console", lambda **_: console)
    export_torch(model, [(X, LABELS)], None, progress=False)
    assert screen.getvalue() == ""
    export_torch(model, [(X, LABELS)], None)
    assert "exporting" in screen.getvalue()


def test_the_model_section_of_a_sequential_network():
    model, X = build("cnn")
    section = export_torch(model, [(X, LABELS)], None).model
    order = torch.argsort(LABELS, stable=True)
    assert np.array_equal(section.inputs, X[order])
    assert section.operations == [
        {
            "op": "conv2d",
            "name": "0",
            "weight": "0.weight",
            "bias": "0.bias",
            "stride": [2, 1],
            "padding": [1, 0],
        },
        {"op": "tanh"},
        {"op": "avg_pool2d", "kernel": [2, 2], "stride": [2, 2]},
        {
            "op": "conv2d",
            "name": "3",
            "weight": "3.weight",
            "bias": None,
            "stride": [1, 1],
            "padding": [0, 0],
        },
        {"op": "relu"},
        {"op": "flatten"},
        {"op": "linear", "name": "6", "weight": "6.weight", "bias": "6.bias"},
    ]
    for key, x in section.parameters.items():
        assert np.array_equal(x, model.get_parameter(key).detach())


ACTIVATIONS = [
    (nn.Dropout(0.5), "identity"),
    (nn.GELU(), "gelu"),
    (nn.GELU("tanh"), "gelu_tanh"),
    (nn.Identity(), "identity"),
    (nn.SiLU(), "silu"),
    (nn.Sigmoid(), "sigmoid"),
    (nn.Softplus(), "softplus"),
    (nn.Softplus(beta=2, threshold=3), "softplus"),
    (nn.LeakyReLU(0.3), "leaky_relu"),
    (nn.PReLU(), "leaky_relu"),
    (nn.ELU(0.7), "elu"),
    (nn.SELU(), "elu"),
    (nn.CELU(1.25), "elu"),
    (nn.ReLU6(), "clip"),
    (nn.Hardtanh(-0.5, 2.0), "clip"),
    (nn.Hardsigmoid(), "hard_sigmoid"),
    (nn.Hardswish(), "hard_swish"),
    (nn.LogSigmoid(), "log_sigmoid"),
]


@pytest.mark.parametrize(("module", "op"), ACTIVATIONS)
def test_activations_have_names(module, op):
    inner = nn.Sequential(module, nn.Linear(5, C))
    model = nn.Sequential(nn.Linear(5, 5), inner, module)
    section = export_torch(model, [(torch.randn(N, 5), LABELS)], None).model
    assert [x["op"] for x in section.operations] == ["linear", op, "linear", op]
    assert section.operations[2]["name"] == "1.1"
    if op != "hard_sigmoid":
        assert not differing(model, torch.randn(N, 5))


@pytest.mark.parametrize("module", [nn.Hardsigmoid(), nn.CELU(1.3)])
def test_what_torch_differentiates_in_single_precision_is_no_section(module):
    """Its own gradient in float64 is off by float32's rounding of a constant."""
    model = nn.Sequential(nn.Linear(5, 5), module, nn.Linear(5, C))
    batch = torch.randn(N, 5), LABELS
    assert export_torch(model, [batch], None).model is not None
    made = export_torch(model, [batch], None, dtype=torch.float64)
    assert "single precision" in made.provenance["without_network"]


def differing(model, X, exclude=()):
    """The arrays that the network of an export does not give again, in float64."""
    how = {"dtype": torch.float64, "exclude": exclude}
    made = export_torch(model, [(X, LABELS)], None, **how)
    return [x.name for x in recompute(made) if not x.ratio <= 1]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Softplus(beta=8), "three derivatives of at most 2"),
        (nn.LayerNorm(5), r"module '1' \(LayerNorm\) is no operation"),
        (nn.Mish(), r"module '1' \(Mish\) is no operation"),
        (nn.PReLU(5), r"module '1' \(PReLU\) has a slope for each channel"),
        (
            nn.Sequential(nn.Unflatten(1, (5, 1)), nn.Flatten(2), nn.Flatten(1)),
            r"module '1.0' \(Unflatten\) is no operation",
        ),
    ],
)
def test_other_networks_have_no_model_section_but_a_reason(module, reason, capfd):
    model = nn.Sequential(nn.Linear(5, 5), module, nn.Linear(5, C))
    made = export_torch(model, [(torch.randn(N, 5), LABELS)], None)
    assert made.model is None
    assert re.search(reason, made.provenance["without_network"])
    shown = " ".join(capfd.readouterr().err.split())
    assert "no network in this export" in shown


def test_softplus_of_torch_is_cut_off_above_its_threshold():
    """Below float32's rounding, above float64's, where it shows."""
    model = nn.Sequential(nn.Linear(5, C), nn.Softplus(), nn.Linear(C, C)).double()
    X = 30 * torch.randn(N, 5).double()
    made = export_torch(model, [(X, LABELS)], None)
    above = made.layer("2").features[:, 0, :C].max()
    assert above > 20
    assert not differing(model, X)
    chain = [dict(x) for x in made.model.operations]
    del chain[1]["threshold"]  # the mutant
    mutant = models.Network(chain, made.model.parameters)
    again = models.snapshot(mutant, made.model.inputs, made.labels)
    assert not np.array_equal(again.layers[1].features, made.layers[1].features)


class Residual(nn.Module):
    """A small residual network of functions: stem, block with a shortcut, mean."""

    def __init__(self, forward):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(4, affine=False)
        self.one = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding="same", dilation=2)
        self.short = nn.Conv2d(3, 4, 1, stride=2, bias=False)
        self.last = nn.Linear(4, C)
        self.how = forward
        for norm in (self.norm, self.other):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.how(self, x)


def residual(net, x):
    x = F.max_pool2d(F.relu(net.norm(net.stem(x))), 3, stride=1, padding=1)
    y = net.two(F.dropout(F.elu(net.other(net.one(x)), 0.7), 0.5, net.training))
    y = torch.tanh(y + net.short(x))
    return net.last(F.adaptive_avg_pool2d(y, 1).view(x.size(0), -1))


def dense(net, x):
    x = F.leaky_relu(net.stem(x), 0.2)
    return net.last(F.hardswish(net.one(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("forward", "exclude"), [(residual, ()), (dense, ("two", "short"))]
)
def test_a_traced_network_gives_its_features_and_errors_again(forward, exclude):
    model = Residual(forward)
    X = torch.randn(N, 2, 6, 6)
    made = export_torch(model, [(X, LABELS)], None, exclude=exclude)
    assert made.model is not None, made.provenance["without_network"]
    assert not differing(model, X, exclude)
    if forward is residual:
        sums = [x["of"] for x in made.model.operations if "of" in x]
        assert sorted(map(len, sums)) == [1, 2]


def test_convolutions_have_model_sections():
    X, flat = torch.randn(N, 2, 6, 6), nn.Flatten()
    for first, width, known in (
        ([nn.Conv2d(2, 2, 2, dilation=2), flat], 32, True),
        ([nn.Conv2d(2, 2, 3, padding="same"), flat], 72, True),
        ([nn.Conv2d(2, 2, 2, padding="same"), flat], 72, False),
        ([nn.Conv2d(2, 2, 1), nn.AvgPool2d(2, padding=1), flat], 32, True),
        ([nn.Conv2d(2, 2, 1), nn.MaxPool2d(4, 3, ceil_mode=True), flat], 8, False),
        ([nn.Conv2d(2, 2, 1), nn.AdaptiveMaxPool2d((2, 3)), flat], 12, True),
        ([nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(4), flat], 32, False),
        ([nn.Linear(6, 6), flat], 72, False),
    ):
        model = nn.Sequential(*first, nn.Linear(width, C))
        made = export_torch(model, [(X, LABELS)], None)
        assert (made.model is not None) == known, made.provenance
        assert not known or not differing(model, X)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Linear(6, 6), r"(batch, 2, 6, 6), a vector at each position, and a Linear"),
        (nn.Flatten(2), "makes (batch, 2, 36) of (batch, 2, 6, 6), and a Flatten"),
        (nn.Conv2d(2, 2, 3, groups=2), "is of 2 groups"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "pads by 'circular'"),
        (nn.Conv2d(2, 2, 2, padding="same"), "pads its inputs on one side more"),
        (nn.AvgPool2d(4, ceil_mode=True), "windows that end outside"),
        (nn.AvgPool2d(2, divisor_override=3), "divides by a number of its own"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), "out of its averages"),
        (nn.AdaptiveAvgPool2d(4), "(batch, 2, 4, 4) of (batch, 2, 6, 6), by windows"),
        (weight_norm(nn.Conv2d(2, 2, 3)), "makes its weights of other parameters"),
    ],
)
def test_the_reason_is_what_a_module_does(module, reason):
    """Not that its kind is unknown: it is one that is known, used in another way."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1), module, nn.Flatten(), nn.LazyLinear(C))
    X = torch.randn(N, 2, 6, 6)
    model(X)
    made = export_torch(model, [(X, LABELS)], None, exclude=["1"] * unplain(module))
    assert made.model is None
    said = made.provenance["without_network"]
    assert said.startswith(f"module '1' ({type(module).__name__})")
    assert reason in said


def unplain(module):
    """Whether a module's rows cannot be exported either."""
    return hasattr(module, "parametrizations")


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda m, x: F.relu(y := m.w(x), inplace=True) + y, "do not give its logits"),
        (lambda m, x: m.w(x) if x.isfinite().all() else x, "cannot trace"),
        (lambda m, x: m.w(x) * m.gate, "'gate' reads a tensor that is not made"),
        (lambda m, x: m.w(x) * 2, "mul.* is no operation"),
        (lambda m, x: torch.cat([(z := m.w(x))[:, :1], z[:, 1:]], 1), "no operation"),
    ],
)
def test_what_a_trace_does_not_show_is_no_section(forward, reason):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.gate = nn.Linear(5, C), nn.Parameter(torch.ones(C))

        def forward(self, x):
            return forward(self, x)

    batch = torch.randn(N, 5), LABELS
    made = export_torch(Net(), [batch], None)
    assert made.model is None
    assert re.search(reason, made.provenance["without_network"])


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "refspec.exporters.torch")
    monkeypatch.delitem(sys.modules, "refspec.exporters.torch_operations")
    with pytest.raises(ImportError, match=r"refspec\[torch\]"):
        import refspec.exporters.torch  # noqa: F401
