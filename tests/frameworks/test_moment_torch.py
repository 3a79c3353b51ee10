"""Any PyTorch classifier: its Fisher and Hessian against the definition, by autograd.

The second path is J by one backward pass for each logit of the model as it is, nothing
functional: G = sum_i s_i J_i'(diag p_i - p_i p_i')J_i; and the gradient of the loss's
gradient in the direction of a vector.
"""

import copy
import importlib.util

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import refspec
from refspec import rounding
from refspec.attribution import attribute_hessian
from refspec.coordinates import coordinates
from refspec.exporters import torch_moment
from refspec.exporters.torch import export, hessian, moment
from refspec.rows import forming_radius
from support.torch_networks import (
    LABELS,
    SMALL,
    C,
    N,
    flat,
    loader,
    mlp,
    published,
    small,
    trained_norms,
)

U = 2.0**-53
# what torch says of old modules and of its own is no concern of ours
pytestmark = pytest.mark.filterwarnings("ignore")


def logits(model, inputs):
    """Run the model as it is, compiled code apart."""
    model = getattr(model, "_orig_mod", model)

    def wide(x):
        return x.double() if x.is_floating_point() else x

    if isinstance(inputs, dict):
        return model(**{k: wide(x) for k, x in inputs.items()})["logits"]
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return model(*map(wide, inputs))


def jacobian(model, inputs):
    """J (N, C, P) in the parameters that are trained, and the probabilities."""
    z = logits(model, inputs)
    chosen = [x for x in model.parameters() if x.requires_grad]
    how = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    rows = [
        torch.cat([g.reshape(-1) for g in torch.autograd.grad(z[n, c], chosen, **how)])
        for n in range(len(z))
        for c in range(C)
    ]
    return torch.stack(rows).reshape(len(z), C, -1), torch.softmax(z, 1).detach()


def fisher(J, p):
    """G by the definition, summed over samples."""
    A = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return (torch.einsum("ncp,ncd,ndq->pq", J, A, J) / len(p)).numpy()


def bound(found, J):
    """What both can be off by: the rows as measured, twice, and their products."""
    size = float((J * J).sum()) / len(J)
    radius = forming_radius(found.rows, found.trace(), U)
    return 2 * radius + 2 * rounding.second_moment_radius(len(J) * C + 64, size, U)


@pytest.mark.parametrize("name", SMALL)
def test_the_fisher_is_that_of_the_definition(name):
    model, inputs = small(name)
    found = moment(model, loader(inputs))
    order = np.argsort(LABELS.numpy(), kind="stable")
    assert found.offsets == (0, 2, 4, 6)
    J, p = jacobian(model, inputs)
    G, true = found.matrix(), fisher(J, p)
    limit = bound(found, J)
    assert np.linalg.norm(G - true) <= limit
    assert not np.linalg.norm(G * (1 + 2.0**-24) - true) <= limit
    count = sum(x.numel() for x in model.parameters() if x.requires_grad)
    assert found.shape == (N * C, count)
    assert sum(n for _, n in found.blocks) == count
    scores = p.numpy()[order]
    assert np.abs(found.weights - scores / N).max() <= rounding.gamma(64, U)


@pytest.mark.parametrize("name", ["lstm", "transformer encoder", "embedding bag"])
def test_products_are_those_of_rows_that_are_formed(monkeypatch, name):
    model, inputs = small(name)
    formed = moment(model, loader(inputs))
    monkeypatch.setattr("refspec.differentiated._HELD", 0)
    monkeypatch.setattr(torch_moment, "_ROOM", 1)  # a sample at a time
    found = moment(model, loader(inputs, size=2))
    assert type(found.rows).__name__ == "Differentiated"
    V = np.random.default_rng(0).standard_normal((found.shape[1], 2))
    size = np.linalg.norm(V)
    limit = size * (found.rows.forming() + formed.rows.forming())
    limit += size * rounding.gamma(sum(found.shape), U) * found.trace() ** 0.5
    assert np.linalg.norm(found.rows.dot(V) - formed.rows.dot(V)) <= limit
    one, other = coordinates(found), coordinates(formed)
    assert one.kind.startswith("measured")
    gap = refspec.spectrum(one).values[0] - refspec.spectrum(other).values[0]
    assert abs(gap) <= one.radius + other.radius + 64 * U * found.trace()


@pytest.mark.parametrize("name", ["mlp, tanh", "conv, average pool", "weight sharing"])
def test_it_has_the_spectrum_of_an_export(name):
    """Weights and biases are in another order there."""
    model, inputs = small(name)
    found = refspec.attribute(moment(model, loader(inputs)))
    seen = export(model, loader(inputs), None, dtype=torch.float64, progress=False)
    true = refspec.attribute(seen)
    radius, n = found.radius + true.radius, N * (C - 1)
    mine, other = found.spectrum.values[:n], true.spectrum.values[:n]
    m = min(len(mine), len(other))
    assert np.abs(mine[:m] - other[:m]).max() <= radius
    for level, values in true.levels.items():
        m = min(len(values), len(found.levels[level]))
        assert np.abs(values[:m] - found.levels[level][:m]).max() <= radius


def test_a_choice_is_a_block_of_the_whole():
    model, inputs = small("transformer encoder")
    whole, first = moment(model, loader(inputs)), "body.layers.0"
    block = moment(model, loader(inputs), [first])
    start = 0
    for name, size in whole.blocks:
        inside = name.startswith(f"{first}.")
        assert (name in dict(block.blocks)) == inside
        start += size
    n = block.shape[1]
    assert whole.blocks[: len(block.blocks)] == block.blocks
    gap = np.linalg.norm(whole.matrix()[:n, :n] - block.matrix())
    limit = 2 * forming_radius(whole.rows, whole.trace(), U)
    limit += 2 * rounding.second_moment_radius(N * C + 8, whole.trace(), U)
    assert gap <= limit
    by_predicate = moment(model, loader(inputs), lambda name, _: first in name)
    assert by_predicate.blocks == block.blocks
    assert str(block.coverage).startswith(
        f"covers {n:,} of {whole.shape[1]:,} parameters"
    )


def test_arrays_may_be_torchs_as_on_a_device(monkeypatch):
    model, inputs = small("residual, batch norm")
    host = refspec.attribute(moment(model, loader(inputs)))
    true = hessian(model, loader(inputs)).ends(2)
    monkeypatch.setattr(torch_moment, "_given_back", lambda x: x.detach())
    found = moment(model, loader(inputs))
    assert isinstance(found.weights, torch.Tensor)
    again = refspec.attribute(found)
    radius, n = host.radius + again.radius, min(len(host.kinds), len(again.kinds))
    gap = np.asarray(again.spectrum.values[:n]) - host.spectrum.values[:n]
    assert np.abs(gap).max() <= radius
    ends = hessian(model, loader(inputs)).ends(2)
    assert isinstance(ends.vectors, torch.Tensor)
    assert np.abs(ends.values - true.values).max() <= ends.radius + true.radius


def test_frozen_parameters_are_left_out_and_said():
    model, inputs = small("scale")
    found = moment(model, loader(inputs))
    assert found.left_out == (("frozen", 4),)
    assert "left out: frozen 4" in str(found.coverage)
    assert dict(moment(model, loader(inputs), ["frozen"]).blocks) == {"frozen": 4}


def test_tied_weights_may_be_named_by_either_name():
    model, inputs = small("tied weights")
    one = moment(model, loader(inputs), ["last"])
    other = moment(model, loader(inputs), ["embed.weight"])
    assert one.blocks == other.blocks == (("embed.weight", 12),)


@pytest.mark.parametrize("name", ["mlp, tanh", "lstm", "transformer encoder", "conv"])
def test_in_float32_the_measured_error_is_a_bound(name):
    model, inputs = small(name)
    wide = moment(model, loader(inputs))
    narrow = moment(model.float(), loader(inputs), dtype=torch.float32)
    again = moment(model.double(), loader(inputs))
    every = np.arange(N * C)
    X, Y, Z = (x.rows.take(every).astype(float) for x in (wide, narrow, again))
    moved = np.linalg.norm(X - Z)  # float32 parameters
    error = np.linalg.norm(Y - Z)
    assert moved >= 0
    assert 0 < error <= narrow.rows.forming() + again.rows.forming()
    assert again.rows.forming() <= 2.0**-20 * narrow.rows.forming()


def test_sample_weights_are_in_the_order_of_the_loader():
    model, inputs = small("mlp, tanh")
    s = np.arange(1.0, 7.0) / 21
    found = moment(model, loader(inputs), sample_weights=s)
    J, p = jacobian(model, inputs)
    root = torch.tensor(s * N).sqrt()[:, None, None]
    assert np.linalg.norm(found.matrix() - fisher(root * J, p)) <= bound(found, 2 * J)
    assert not np.linalg.norm(found.matrix() - fisher(J, p)) <= bound(found, 2 * J)


@pytest.mark.parametrize(
    "name", ["pruned", "weight norm, old", "lstm", "residual, batch norm", "compiled"]
)
def test_the_model_is_given_back_as_it_was(name):
    model, inputs = small(name)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    kept = {k: set(vars(x)) for k, x in model.named_modules()}
    moment(model, loader(inputs))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert {k: set(vars(x)) for k, x in model.named_modules()} == kept
    assert all(x.grad is None for x in model.parameters())
    model.eval()
    logits(model, inputs).sum().backward()
    assert any(x.grad is not None for x in model.parameters())


def test_a_module_of_two_names_is_given_back():
    """functional_call leaves a tensor in the place of its parameter."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()
    model.append(model[0])
    before = model[0].weight
    found = moment(model, loader(torch.randn(N, 3)))
    assert found.blocks == (("0.weight", 9), ("0.bias", 3))
    assert model[0].weight is model[2].weight is before
    assert isinstance(before, nn.Parameter)


def test_training_on_changes_nothing_of_a_moment(monkeypatch):
    monkeypatch.setattr("refspec.differentiated._HELD", 0)
    model, inputs = small("residual, batch norm")
    found = moment(model, loader(inputs))
    V = np.ones((found.shape[1], 1))
    before = found.rows.dot(V)
    with torch.no_grad():
        [x.add_(1) for x in model.parameters()]
    model.norm.running_mean.add_(1)
    assert np.array_equal(found.rows.dot(V), before)


def test_a_model_of_float32_alone_says_how_it_is_measured():
    model = ended(Narrow(), nn.Linear(C, C)).float()
    found = moment(model, loader(X), dtype=torch.float32)
    assert found.rows.known == "measured between two modes only"
    assert hessian(model, loader(X), dtype=torch.float32).lost > 0
    stream = moment(model, iter(loader(X)), dtype=torch.float32)  # read once
    assert np.array_equal(stream.matrix(), found.matrix())
    assert moment(ended(), loader(X)).rows.known == "measured"


class Batch(nn.Module):
    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, training=True)


class Random(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x)


class Cast(nn.Module):
    def forward(self, x):
        return x.bfloat16()


class Narrow(nn.Module):
    def forward(self, x):
        return x.float()


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


class Few(nn.Module):
    def forward(self, x):
        return [x]


def ended(*steps):
    return nn.Sequential(nn.Linear(4, C), *steps).double()


X = torch.randn(N, 4)
LAZY = nn.Sequential(nn.LazyLinear(C))
META = nn.Linear(4, C, device="meta")
COMPLEX = nn.Linear(4, C, dtype=torch.complex64)
FROZEN = nn.Linear(4, C).requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "given", "how", "message"),
    [
        (ended(Batch()), X, {}, "must treat each sample by itself"),
        (ended(nn.BatchNorm1d(C, track_running_stats=False)), X, {}, "by itself"),
        (ended(Random()), X, {}, "by itself.*nothing random"),
        (ended(nn.Softmax(1)), X, {}, "take the softmax off"),
        (ended(Cast()), X, {}, "logits of float32 or float64, got torch.bfloat16"),
        (ended(Narrow(), nn.Linear(C, C)), X, {}, r"takes dtype=torch\.float32"),
        (ended(Detached()), X, {}, "none of .*reaches"),
        (ended(Few()), X, {}, "must give a tensor of logits"),
        (ended(), X, {"parameters": ["1"]}, "must name parameters, or modules"),
        (ended(), X, {"parameters": "0"}, "parameters must be a list"),
        (ended(), X, {"parameters": []}, "must choose some"),
        (ended(), X, {"parameters": lambda *_: False}, "must choose some"),
        (ended(), X, {"dtype": torch.float16}, "dtype must be torch.float32"),
        (ended(), X, {"sample_weights": np.ones(N + 1)}, r"\(N,\) with N = 6"),
        (ended(), X, {"sample_weights": 0 * np.ones(N)}, "a finite sum > 0"),
        (ended(), torch.randn(N, 5), {}, "take the inputs of the loader"),
        (ended(), {"x": X}, {}, "take the inputs of the loader"),
        (LAZY, X, {}, "lazy or on the device 'meta'"),
        (META, X, {}, "lazy or on the device 'meta'"),
        (COMPLEX, X, {}, "must be real floating"),
        (FROZEN, X, {}, "are frozen; name some"),
        (nn.Flatten(), X, {}, "model must have parameters"),
        (3, X, {}, "model must be a Module"),
    ],
)
def test_what_has_no_such_moment_is_refused(model, given, how, message):
    with pytest.raises((TypeError, ValueError), match=message):
        moment(model, loader(given), **how)


class Wrong(torch.autograd.Function):
    """A product whose backward pass is another one's, forward mode right."""

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):  # noqa: ARG004
        return 2.001 * g

    @staticmethod
    def jvp(ctx, t):  # noqa: ARG004
        return 2 * t


def wrong_body():
    class Body(nn.Module):
        def forward(self, x):
            return Wrong.apply(x)

    return Body()


def test_a_derivative_that_one_mode_gets_wrong_is_refused():
    with pytest.raises(ValueError, match="must be products with one matrix"):
        moment(ended(wrong_body()), loader(X))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_published_networks_by_products(monkeypatch, name):
    """G V and H V in one direction, of all parameters, against autograd."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    monkeypatch.setattr("refspec.differentiated._HELD", 0)
    torch.manual_seed(0)
    model = trained_norms(published(32)[name]()).double().eval()
    inputs, labels = torch.randn(3, 3, 32, 32), torch.arange(3)
    found = moment(model, [(inputs, labels)])
    assert found.coverage.complete
    chosen = list(model.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        z = model(inputs.double())
    v = np.random.default_rng(0).standard_normal((found.shape[1], 1))
    p, u = torch.softmax(z, 1).detach(), torch.zeros_like(z, requires_grad=True)
    g = torch.autograd.grad(z, chosen, u, create_graph=True)
    parts = torch.split(torch.tensor(v[:, 0]), [x.numel() for x in chosen])
    parts = [y.reshape(x.shape) for x, y in zip(chosen, parts, strict=True)]
    (T,) = torch.autograd.grad(g, u, parts, retain_graph=True)  # J v
    M = p * T - p * (p * T).sum(1, keepdim=True)
    parts = torch.autograd.grad(z, chosen, M / len(z))
    true = torch.cat([x.reshape(-1) for x in parts]).numpy()
    got = found.matvec(v)[:, 0]
    size = float(np.linalg.norm(found.rows.dot(v)))  # ||X v||; ||X|| is at least |X'Xv|
    norm = np.linalg.norm(got) / size
    e = found.rows.forming()
    limit = 2 * e * (size + (norm + e) * np.linalg.norm(v))
    assert np.linalg.norm(got - true) <= limit
    assert not np.linalg.norm(got * (1 + 2.0**-16) - true) <= limit


def apart(found):
    """How far a moment's matrix can be from the exact one."""
    radius = rounding.second_moment_radius(64, found.trace(), U)
    return radius + forming_radius(found.rows, found.trace(), U)


def test_one_logit_is_two_and_classes_may_be_chosen():
    torch.manual_seed(0)
    three, labels = mlp(4, 5, C).double(), LABELS % 2
    binary = copy.deepcopy(three)
    binary[2] = nn.Linear(5, 1).double()
    pair = copy.deepcopy(binary)
    with torch.no_grad():
        weights = torch.cat([torch.zeros(1, 5), binary[2].weight])
        pair[2] = nn.Linear(5, 2).double()
        pair[2].weight.copy_(weights)
        pair[2].bias.copy_(torch.cat([torch.zeros(1), binary[2].bias]))
    one, two = (moment(x, loader(X, labels), ["0"]) for x in (binary, pair))
    limit = apart(one) + apart(two)
    assert np.linalg.norm(one.matrix() - two.matrix()) <= limit
    found = moment(three, loader(X, labels), classes=[2, 0])
    cut = copy.deepcopy(three)
    with torch.no_grad():
        cut[2].weight.copy_(three[2].weight[[2, 0, 1]])
        cut[2].bias.copy_(three[2].bias[[2, 0, 1]])
    first = moment(cut, loader(X, labels), ["0"], classes=[0, 1])
    limit = apart(found) + apart(first)
    gap = found.matrix()[:25, :25] - first.matrix()
    assert np.linalg.norm(gap) <= limit
    names = [["cat", "dog"][int(k)] for k in labels]
    named = moment(three, [(X, names)], classes=[2, 0], class_names=["cat", "dog"])
    assert np.linalg.norm(named.matrix() - found.matrix()) <= limit
    with pytest.raises(ValueError, match="classes must be at least two columns"):
        hessian(three, loader(X, labels), classes=[0, 3])


def test_a_list_in_place_of_tensors_and_one_batch():
    torch.manual_seed(0)
    model = flat(mlp(4, 5, C))[0].double()
    copied = copy.deepcopy(model)
    one = moment(model, [(X.tolist(), LABELS.tolist())])
    other = moment(copied, [(X.numpy(), LABELS.numpy())])
    gap = np.linalg.norm(one.matrix() - other.matrix())
    assert gap <= apart(one) + apart(other)


def normed(model, inputs):
    """The logits of a network with weight norm, without torch's: its Hessian errs."""
    x, found = inputs.double(), dict(model.named_parameters())
    g = found.get("0.weight_g", found.get("0.parametrizations.weight.original0"))
    v = found.get("0.weight_v", found.get("0.parametrizations.weight.original1"))
    W = g * v / (v * v).sum(1, keepdim=True).sqrt()
    return model[2](torch.tanh(x @ W.T + found["0.bias"]))


def loss_hessian(model, inputs, V, run=logits):
    """H V of the mean cross-entropy of the model as it is."""
    chosen = [x for x in model.parameters() if x.requires_grad]
    how = {"allow_unused": True, "materialize_grads": True}
    with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
        loss = nn.functional.cross_entropy(run(model, inputs), LABELS)
    g = torch.autograd.grad(loss, chosen, create_graph=True, **how)
    g = torch.cat([x.reshape(-1) for x in g])
    columns = []
    for v in torch.tensor(V).T:
        parts = torch.autograd.grad(g, chosen, v, retain_graph=True, **how)
        columns.append(torch.cat([x.reshape(-1) for x in parts]))
    return torch.stack(columns, 1).numpy()


@pytest.mark.parametrize("name", [x for x in SMALL if x != "embedding bag"])
def test_products_with_the_hessian_are_autograds(name):
    model, inputs = small(name)
    H = hessian(model, loader(inputs))
    V = np.random.default_rng(0).standard_normal((H.size, 2))
    run = normed if "weight norm" in name else logits
    found, true = H.dot(V), loss_hessian(model, inputs, V, run)
    limit = 2 * H.lost * np.linalg.norm(V)
    assert np.linalg.norm(found - true) <= limit
    assert not np.linalg.norm(found * (1 + 2.0**-20) - true) <= limit
    assert sum(n for _, n in H.blocks) == H.size


@pytest.mark.parametrize("name", ["mlp, tanh", "mlp, sigmoid", "conv, average pool"])
def test_the_hessian_is_that_of_the_section(name):
    """Weights and biases are in another order there: eigenvalues."""
    model, inputs = small(name)
    model = model if name.startswith("mlp") else mlp(4, 7, 5, C).double()
    inputs = inputs if name.startswith("mlp") else torch.randn(N, 4)
    H, G = hessian(model, loader(inputs)), moment(model, loader(inputs))
    seen = export(model, loader(inputs), None, dtype=torch.float64, progress=False)
    true = np.linalg.eigvalsh(refspec.hessian.of_snapshot(seen))[::-1]
    section = refspec.models.from_section(seen.model)
    theirs = refspec.hessian.hessian_radius(section, seen.model.inputs, seen.labels)
    whole, ends = attribute_hessian(H, G), attribute_hessian(H, G, top=3)
    assert np.abs(whole.values - true).max() <= whole.radius + theirs
    pick = np.r_[:3, -3:0]
    assert np.abs(ends.values - true[pick]).max() <= ends.radius + theirs
    assert not np.abs(ends.values * 1.001 - true[pick]).max() <= ends.radius + theirs
    assert np.abs(sum(whole.parts.values()) - whole.values).max() <= whole.radius


def test_the_hessian_of_a_fit_has_its_digits():
    """Logits of 60 apart: p - e_c is far below the roundoff of 1."""
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[30.0, -30.0], [-30.0, 30.0]]))
    x, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    H = hessian(model, [(x, labels)])
    q = np.exp(-60.0) / (1 + np.exp(-60.0)) ** 2  # p (1 - p)
    A = np.array([[q, -q], [-q, q]])
    X = x.double().numpy()
    true = sum(np.kron(A, np.outer(a, a)) for a in X) / 2
    size = np.linalg.norm(true)
    assert np.linalg.norm(H.dot(np.eye(4)) - true) <= H.lost + 128 * U * size
    assert H.lost <= 2.0**-30 * size


def test_torchs_own_weight_norm_has_another_hessian():
    """Why it is replaced by its definition."""
    model, inputs = small("weight norm")
    V = np.eye(sum(x.numel() for x in model.parameters()))
    H, true = (loss_hessian(model, inputs, V, run) for run in (logits, normed))
    assert np.linalg.norm(true - true.T) <= rounding.gamma(2**10, U) * abs(true).max()
    assert np.linalg.norm(H - H.T) > 0.1 * np.linalg.norm(true)


def test_hessians_that_are_not_there_are_refused():
    model, inputs = small("embedding bag")
    with pytest.raises(ValueError, match=r"_embedding_bag_backward.*not implemented"):
        hessian(model, loader(inputs))
    with pytest.raises(ValueError, match="label_smoothing must lie in"):
        hessian(ended(), loader(X), label_smoothing=1.5)


def test_a_hessian_by_chunks_and_with_weights(monkeypatch):
    model, inputs = small("lstm")
    s = np.ones(N) / N
    whole = hessian(model, loader(inputs), sample_weights=s)
    monkeypatch.setattr(torch_moment, "_ROOM", 1)
    parts = hessian(model, loader(inputs, size=2))
    V = np.ones((whole.size, 1))
    limit = (whole.lost + parts.lost) * np.linalg.norm(V)
    assert np.linalg.norm(whole.dot(V) - parts.dot(V)) <= limit
    first = hessian(model, loader(inputs), sample_weights=np.eye(N)[0])
    assert not np.linalg.norm(whole.dot(V) - first.dot(V)) <= limit
