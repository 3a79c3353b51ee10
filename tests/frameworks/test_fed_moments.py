"""What people feed `moment` and `hessian`: right by the definition, or a sentence.

The Fisher information of each case is sum_n s_n J_n'(diag p_n - p_n p_n')J_n, the
Hessian that of the loss, J and derivatives by torch's autograd of the model as it is.
"""

import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp
from torch import nn

from refspec import fisher, rounding
from refspec.exporters import jax as jax_exporter
from refspec.exporters.torch import export, hessian, moment
from refspec.rows import forming_radius

N, T, C, U = 5, 4, 3, 2.0**-53
jax.config.update("jax_enable_x64", True)
torch.manual_seed(0)
X = torch.randn(N, T, 4).double()
Y = torch.tensor([[0, 1, 2, 1]] * 4 + [[2, -100, 0, 1]])
W = {"a": torch.randn(4, 4).double(), "z": torch.randn(4, C).double()}


class Attending(nn.Module):
    """Tokens that look at each other; logits of each on the last axis or the second."""

    def __init__(self, axis=-1):
        super().__init__()
        self.axis = axis
        self.a, self.z = nn.Parameter(W["a"].clone()), nn.Parameter(W["z"].clone())

    def forward(self, x):
        h = torch.tanh(x @ self.a)
        z = (torch.softmax(h @ h.transpose(1, 2), 2) @ h) @ self.z
        return z.movedim(-1, self.axis)


def attending(parameters, x):
    h = jnp.tanh(x @ parameters["a"])
    mixed = jax.nn.softmax(h @ jnp.swapaxes(h, 1, 2), axis=2) @ h
    return {"logits": mixed @ parameters["z"]}


def tree():
    return {name: jnp.asarray(x.numpy()) for name, x in W.items()}


def batches(x=X, y=Y, size=2):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def arrays(pairs):
    return [(x.numpy(), y.numpy()) for x, y in pairs]


def definition(model, x, s, of=lambda z: z.reshape(-1, C)):
    """The Fisher by the definition; s (n S,), and how large its terms are."""
    z = of(model(x))
    chosen = list(model.parameters())
    rows = [
        torch.cat(
            [
                g.reshape(-1)
                for g in torch.autograd.grad(
                    z[n, c], chosen, retain_graph=True, materialize_grads=True
                )
            ]
        )
        for n in range(len(z))
        for c in range(z.shape[1])
    ]
    J, p = torch.stack(rows).reshape(*z.shape, -1), torch.softmax(z, 1).detach()
    A = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    G = torch.einsum("n,ncp,ncd,ndq->pq", s, J, A, J).numpy()
    return G, float(torch.einsum("n,ncp,ncp->", s, J, J))


def expect_right(found, true):
    G, size = true
    radius = forming_radius(found.rows, found.trace(), U)
    limit = 2 * radius + 2 * rounding.second_moment_radius(16 * N * T * C, size, U)
    assert np.linalg.norm(found.matrix() - G) <= limit
    assert not np.linalg.norm(found.matrix() * (1 + 2.0**-24) - G) <= limit


def weighed(y, class_weights=None, sample_weights=None):
    """Weights (n S,) of sum 1: of labels that count, by class, by input."""
    s = (y >= 0).double()
    if class_weights is not None:
        s = s * torch.tensor(class_weights).double()[y.clamp(min=0)]
    if sample_weights is not None:
        s = s * torch.tensor(sample_weights).double()[:, None]
    return (s / s.sum()).reshape(-1)


WEIGHTS = [
    {},
    {"class_weights": [1.0, 0.25, 4.0], "sample_weights": [1.0, 0.0, 2.0, 0.5, 3.0]},
]


@pytest.mark.parametrize("how", WEIGHTS)
def test_tokens_are_samples_with_the_weights_of_input_and_class(how):
    true = definition(Attending(), X, weighed(Y, **how))
    found = moment(Attending(), batches(), ignore_index=-100, **how)
    assert found.offsets[-1] == N * T - 1
    expect_right(found, true)
    given = arrays(batches())
    expect_right(
        jax_exporter.moment(attending, tree(), given, ignore_index=-100, **how), true
    )


def test_classes_on_the_second_axis_and_rows_not_held(monkeypatch):
    true = definition(Attending(), X, weighed(Y))
    expect_right(moment(Attending(1), batches(size=5), ignore_index=-100), true)
    monkeypatch.setattr("refspec.differentiated._HELD", 0)
    monkeypatch.setattr("refspec.exporters.torch_moment._ROOM", 1)
    given = arrays(batches())
    for found, kind in (
        (moment(Attending(1), batches(), ignore_index=-100), "Differentiated"),
        # where every leaf is one of a linear map
        (jax_exporter.moment(attending, tree(), given, ignore_index=-100), "Permuted"),
    ):
        assert type(found.rows).__name__ == kind
        expect_right(found, true)


def test_some_classes_by_name():
    """Labels are numbered by the classes that are kept."""
    y = torch.tensor([[0, 1, 1, 0]] * N)
    words = [np.array(["eel", "cat"])[x.numpy()].tolist() for _, x in batches(y=y)]
    true = definition(Attending(), X, weighed(y), lambda z: z.reshape(-1, C)[:, [2, 0]])
    how = {"classes": [2, 0], "class_names": ["eel", "cat"]}
    given = [(x, w) for (x, _), w in zip(batches(), words, strict=True)]
    expect_right(moment(Attending(), given, **how), true)
    given = [(x.numpy(), w) for x, w in given]
    expect_right(jax_exporter.moment(attending, tree(), given, **how), true)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_hessian_has_weights_and_label_smoothing(smoothing):
    model, how = Attending(), {"class_weights": [1.0, 0.25, 4.0]}
    s = weighed(Y, **how)
    losses = nn.functional.cross_entropy(
        model(X).reshape(-1, C),
        Y.reshape(-1).clamp(min=0),
        reduction="none",
        label_smoothing=smoothing,
    )
    chosen = list(model.parameters())
    g = torch.autograd.grad((s * losses).sum(), chosen, create_graph=True)
    g = torch.cat([x.reshape(-1) for x in g])
    V = np.random.default_rng(0).standard_normal((len(g), 2))
    columns = [
        torch.cat(
            [
                x.reshape(-1)
                for x in torch.autograd.grad(
                    g, chosen, torch.tensor(v), retain_graph=True
                )
            ]
        )
        for v in V.T
    ]
    true = torch.stack(columns, 1).numpy()
    how |= {"ignore_index": -100, "label_smoothing": smoothing}
    for H in (
        hessian(model, batches(), **how),
        jax_exporter.hessian(attending, tree(), arrays(batches()), **how),
    ):
        found, limit = H.dot(V), 2 * H.lost * np.linalg.norm(V)
        assert np.linalg.norm(found - true) <= limit
        assert not np.linalg.norm(found * (1 + 2.0**-20) - true) <= limit


def test_an_export_of_tokens_from_jax_is_that_of_torch():
    """Both see sum_n r_n errors (x) features as the gradient; their Fishers agree."""
    made = jax_exporter.export(
        attending, tree(), arrays(batches()), None, ignore_index=-100, progress=False
    )
    assert [x.name for x in made.layers] == ["a", "z"]
    assert "several samples" in made.provenance["without_network"]

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.z = nn.Linear(4, 4, bias=False), nn.Linear(4, C, bias=False)
            with torch.no_grad():
                self.a.weight.copy_(W["a"].T)
                self.z.weight.copy_(W["z"].T)

        def forward(self, x):
            h = torch.tanh(self.a(x))
            return self.z(torch.softmax(h @ h.transpose(1, 2), 2) @ h)

    other = export(
        Layers().double(), batches(), None, ignore_index=-100, progress=False
    )
    for one, two in zip(made.layers, other.layers, strict=True):
        for x, y in ((one.errors, two.errors), (one.features, two.features)):
            size = np.linalg.norm(y)
            assert np.linalg.norm(x - y) <= rounding.gamma(2**10, U) * size


def test_a_linear_map_of_flattened_tokens_sees_positions():
    torch.manual_seed(0)

    class Flat(nn.Module):
        def __init__(self, time_first=False):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, C)
            self.time_first = time_first

        def forward(self, x):
            x = x.transpose(0, 1) if self.time_first else x
            h = torch.tanh(self.first(x.reshape(-1, 4))).reshape(*x.shape)
            h = h.transpose(0, 1) if self.time_first else h
            return self.last(h.mean(1))

    model, y = Flat().double(), Y[:, 0]
    made = export(model, batches(y=y), None, progress=False)
    assert made.layer("first").features.shape == (N, T, 5)
    names = ["first.weight", "first.bias", "last.weight", "last.bias"]
    G = definition(model, X, torch.ones(N).double() / N, lambda z: z)[0]
    assert [n for n, _ in model.named_parameters()] == names
    assert abs(np.trace(G) - fisher(made).trace()) <= rounding.gamma(
        2**10, U
    ) * np.trace(G)
    with pytest.raises(ValueError, match="'first'"):
        export(Flat(time_first=True).double(), batches(y=y), None, progress=False)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :, :3], Y[:, :2], r"labels of shape \(2, 2\)"),
        (torch.randn(N, C, 4).double(), torch.zeros(N, C, dtype=int), "tell classes"),
        (X, Y, "ignore_index=-100"),
        (X, Y * 0 - 1, "ignore_index=-1"),
    ],
)
def test_layouts_that_cannot_be_told_are_refused(x, y, message):
    model = Attending()
    x = torch.nn.functional.pad(x, (0, 4 - x.shape[2]))
    with pytest.raises(ValueError, match=message):
        moment(model, batches(x, y))
    with pytest.raises(ValueError, match=message):
        export(nn.Sequential(nn.Linear(4, C)).double(), batches(x, y), None)
    with pytest.raises(ValueError, match=message):
        jax_exporter.moment(attending, tree(), arrays(batches(x, y)))


def test_inputs_of_several_lengths_are_refused():
    pairs = [(X, Y), (X[:, :2], Y[:, :2])]
    for call in (
        lambda: moment(Attending(), pairs, ignore_index=-100),
        lambda: jax_exporter.moment(
            attending, tree(), arrays(pairs), ignore_index=-100
        ),
    ):
        with pytest.raises(ValueError, match=r"at \(4,\) positions.*pad them"):
            call()
    with pytest.raises(ValueError, match="check ignore_index"):
        moment(Attending(), batches(y=Y * 0), ignore_index=0)
