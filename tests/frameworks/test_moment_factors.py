"""Rows of layers that are understood are factors, the others' are differentiated.

Where rows of all parameters do not fit. Against the definition, as all moments are.
"""

import numpy as np
import pytest
import torch
from torch import nn

import refspec
from frameworks.test_moment_torch import U, bound, ended, fisher, jacobian, wrong_body
from refspec import differentiated, memory, plans, rounding
from refspec.exporters import factored, torch_factors, torch_moment
from refspec.exporters.torch import moment
from refspec.factors import Factors
from refspec.grams import held
from refspec.layerwise import Layerwise
from refspec.rows import forming_radius
from support.torch_networks import LABELS, SMALL, C, N, loader, mlp, small

pytestmark = pytest.mark.filterwarnings("ignore")
#: No layer is understood; it cannot be copied.
DIFFERENTIATED = {"weight used twice", "pruned"}


@pytest.fixture
def short(monkeypatch):
    """Leave room for all explicit rows but one number."""

    def limit(model):
        P = sum(x.numel() for x in model.parameters() if x.requires_grad)
        monkeypatch.setattr(differentiated, "_HELD", 8 * N * C * P - 1)
        return model

    return limit


@pytest.mark.parametrize("name", SMALL)
def test_the_fisher_is_that_of_the_definition(short, name):
    model, inputs = small(name)
    found = moment(short(model), loader(inputs))
    assert isinstance(found.rows, Factors) is (name not in DIFFERENTIATED)
    J, p = jacobian(model, inputs)
    limit = bound(found, J)
    G, true = found.matrix(), fisher(J, p)
    assert np.linalg.norm(G - true) <= limit
    assert not np.linalg.norm(G * (1 + 2.0**-24) - true) <= limit
    assert sum(n for _, n in found.blocks) == found.shape[1] == J.shape[2]


def test_which_rows_are_factors(short):
    """Those of weights; of biases, and of what is not understood, they are explicit."""
    model, inputs = small("residual, batch norm")
    found = moment(short(model), loader(inputs))
    kinds = {
        n: f.features is not None
        for f, (n, _) in zip(found.rows.layers, found.blocks, strict=True)
    }
    assert [n for n, product in kinds.items() if product] == [
        f"{x}.weight" for x in ("a", "b", "head")
    ]
    assert found.rows.known == "measured"
    assert found.coverage.complete


def test_a_block_and_a_choice_are_those_of_the_whole(short):
    model, inputs = small("residual, batch norm")
    every = np.arange(N * C)
    true = moment(model, loader(inputs))
    whole = moment(short(model), loader(inputs))
    for names in (["b"], ["norm", "head.bias"], ["a.weight"]):
        rows = true.part(names).rows.take(every)
        for found in (whole.part(names), moment(model, loader(inputs), names)):
            gap = np.linalg.norm(found.rows.take(every) - rows)
            assert gap <= found.rows.forming() + true.rows.forming() + 64 * U
            assert dict(found.blocks) == dict(true.part(names).blocks)
    assert isinstance(whole.part(["b"]).rows, Factors)
    planned = plans.plan(whole, what="report")
    assert len(planned.parts) == 5
    assert planned.products > plans.plan(whole.part(["b"]), what="report").products


def test_the_largest_are_attributed_alike(short):
    model, inputs = small("conv, max pool")
    true = refspec.attribute(moment(model, loader(inputs)), top=3)
    found = refspec.attribute(moment(short(model), loader(inputs)), top=3)
    radius = true.radius + found.radius
    assert np.abs(found.spectrum.values - true.spectrum.values).max() <= radius
    for name, values in true.levels.items():
        assert np.abs(found.levels[name] - values).max() <= radius
    assert found.kinds == true.kinds
    assert "measured" in found.spectrum.kind


def test_samples_at_positions_that_weigh_and_are_ignored(short):
    """Tokens: several samples an input, some without a label."""
    torch.manual_seed(0)
    model = mlp(4, 5, C).double().eval()
    inputs, labels = torch.randn(4, 2, 4), torch.randint(C, (4, 2))
    labels[1, 1] = labels[3, 0] = -100
    how = {"ignore_index": -100, "class_weights": [1.0, 2.0, 0.5]}
    batches = [(inputs[:2], labels[:2]), (inputs[2:], labels[2:])]
    true = moment(model, batches, **how)
    found = moment(short(model), iter(batches), **how)
    assert found.rows.layers[0].features is not None
    every = np.arange(N * C)
    gap = np.linalg.norm(found.rows.take(every) - true.rows.take(every))
    assert gap <= found.rows.forming() + true.rows.forming() + 64 * U
    assert found.offsets == true.offsets


@pytest.mark.parametrize("name", ["conv, max pool", "residual, batch norm"])
def test_in_float32_the_measured_error_is_a_bound(short, name):
    model, inputs = small(name)
    narrow = moment(short(model.float()), loader(inputs), dtype=torch.float32)
    again = moment(model.double(), loader(inputs))
    every = np.arange(N * C)
    Y, Z = (x.rows.take(every).astype(float) for x in (narrow, again))
    assert narrow.rows.like.dtype == np.float32
    assert 0 < np.linalg.norm(Y - Z) <= narrow.rows.forming() + again.rows.forming()
    assert again.rows.forming() <= 2.0**-20 * narrow.rows.forming()


def test_arrays_may_be_torchs_as_on_a_device(short, monkeypatch):
    model, inputs = small("residual, batch norm")
    host = moment(short(model), loader(inputs))
    monkeypatch.setattr(torch_moment, "_given_back", lambda x: x.detach())
    found = moment(model, loader(inputs))
    assert all(isinstance(f.roots, torch.Tensor) for f in found.rows.layers)
    gap = np.linalg.norm(found.matrix().numpy() - host.matrix())
    limit = sum(forming_radius(x.rows, host.trace(), U) for x in (host, found))
    assert gap <= limit + rounding.second_moment_radius(64, host.trace(), U)


def test_training_on_changes_nothing(short):
    model, inputs = small("residual, batch norm")
    found = moment(short(model), loader(inputs))
    before = found.matrix()
    with torch.no_grad():
        [x.add_(1) for x in model.parameters()]
    assert np.array_equal(found.matrix(), before)


def test_what_memory_allows_is_what_is_held(short):
    model, inputs = small("conv, max pool")
    with memory.within(2**12):
        found = moment(short(model), loader(inputs))
    assert isinstance(found.rows, Layerwise)


@pytest.mark.parametrize("room", [0, 2**12, 2**40])
@pytest.mark.parametrize("name", SMALL)
def test_factors_that_do_not_fit_are_gathered_layer_by_layer(
    short, monkeypatch, name, room
):
    """Whole layers together, or some outputs of one: XX' is that of the definition."""
    model, inputs = small(name)
    monkeypatch.setattr(torch_factors.Gathered, "fit", False)
    monkeypatch.setattr(Layerwise, "_room", room)
    found = moment(short(model), loader(inputs))
    assert isinstance(found.rows, Layerwise) is (name not in DIFFERENTIATED)
    if name in DIFFERENTIATED:
        return
    J, p = jacobian(model, inputs)
    order = np.argsort(LABELS.numpy(), kind="stable")
    errors = p[:, None, :] - torch.eye(C, dtype=p.dtype)
    X = (torch.sqrt(p / N)[:, :, None] * (errors @ J))[order].reshape(N * C, -1)
    G, true = found.rows.outer(), (X @ X.T).numpy()
    limit = bound(found, J)
    assert np.linalg.norm(G - true) <= limit
    assert not np.linalg.norm(G * (1 + 2.0**-24) - true) <= limit
    made = held(found)
    assert made.unit is not None
    every = np.eye(N * C).reshape(N, C, -1)
    off = made.gram_times(every).reshape(N * C, -1) - true
    assert np.linalg.norm(off) <= limit + made.off
    assert made.held.shape == (N * (C - 1), N * (C - 1))


def test_a_backward_pass_that_forward_mode_contradicts_is_refused(short):
    """An export has that pass alone, and agrees with itself."""
    with pytest.raises(ValueError, match="factors and J V must be products with one"):
        moment(short(ended(wrong_body())), loader(torch.randn(N, 4)))


def test_a_layer_that_one_sample_leaves_is_differentiated(short):
    """Of a module that is called once a sample no row can be told."""

    class Each(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.last = nn.Linear(4, 5), nn.Linear(5, C)

        def forward(self, x):
            return self.last(torch.stack([torch.tanh(self.one(y)) for y in x]))

    torch.manual_seed(0)
    model, X = Each().double().eval(), torch.randn(N, 4)
    found = moment(short(model), loader(X))
    assert [f.features is not None for f in found.rows.layers] == [
        False,
        False,
        True,
        False,
    ]
    J, p = jacobian(model, X)
    assert np.linalg.norm(found.matrix() - fisher(J, p)) <= bound(found, J)


def test_weights_or_biases_alone_are_gathered(monkeypatch):
    """A choice leaves out the others of a module, rows formed or not."""
    model, inputs = small("conv, max pool")
    for names in (["0.weight"], ["0.bias"], ["0"], None):
        true = moment(model, loader(inputs), names)
        with monkeypatch.context() as patch:
            patch.setattr(differentiated, "_HELD", 0)
            patch.setattr(torch_factors.Gathered, "fit", False)
            for form in (False, True):
                patch.setattr(factored.Part, "formed", lambda *_, x=form: x)
                found = moment(model, loader(inputs, size=2), names)
                assert isinstance(found.rows, Layerwise)
                G, every = found.rows.outer(), true.rows.outer()
                limit = rounding.second_moment_radius(512, true.trace(), U)
                limit += 4 * true.trace() ** 0.5 * true.rows.forming()
                assert np.linalg.norm(G - every) <= limit, (names, form)


def test_what_an_export_refuses_is_no_source(monkeypatch):
    """Modules that are not understood are differentiated, as where factors fit."""
    model, inputs = small("weight used twice")
    monkeypatch.setattr(differentiated, "_HELD", 0)
    monkeypatch.setattr(torch_factors.Gathered, "fit", False)
    found = moment(model, loader(inputs))
    assert type(found.rows).__name__ == "Differentiated"
