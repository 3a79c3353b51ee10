"""The scikit-learn exporter against scikit-learn and against torch.

Probabilities are those of ``predict_proba``; errors and features are those of the same
network in PyTorch, whose own gradients the tests of its exporter check. The bounds are
those of `refspec.models.recompute`: a running error analysis of the network.
"""

import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from refspec import classes, curvature, export, models, rounding
from refspec.classes import Snapshot
from refspec.exporters.sklearn import export as export_sklearn
from refspec.exporters.torch import export as export_torch
from refspec.models.recompute import recompute

U = 2.0**-53
TORCH = {"identity": nn.Identity, "logistic": nn.Sigmoid, "relu": nn.ReLU}
TORCH["tanh"] = nn.Tanh
# few steps are enough here, and scikit-learn says that they are few
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def wines(C=3, dtype=np.float64):
    wine = load_wine() if C == 3 else load_breast_cancer()
    X = StandardScaler().fit_transform(wine.data).astype(dtype)
    y = wine.target
    kept = np.concatenate([np.flatnonzero(y == c)[: 9 + 3 * c] for c in range(C)])
    return X[kept], wine.target_names[y[kept]]


def fitted(activation, C=3, dtype=np.float64):
    X, y = wines(C, dtype)
    network = MLPClassifier((5, 4), activation=activation, max_iter=30, random_state=0)
    return network.fit(X, y), X, y


def as_torch(network):
    """The same network with C logits, in float64."""
    modules = []
    for W, b in zip(network.coefs_, network.intercepts_, strict=True):
        W, b = torch.tensor(W.T).double(), torch.tensor(b).double()
        if len(W) == 1:
            W, b = torch.cat([0 * W, W]), torch.cat([0 * b, b])
        linear = nn.Linear(W.shape[1], W.shape[0]).double()
        linear.weight, linear.bias = nn.Parameter(W), nn.Parameter(b)
        modules += [linear, TORCH[network.activation]()]
    return nn.Sequential(*modules[:-1])


def renamed(snapshot, like):
    """Another program's layers under the names and with the model of ours."""
    layers = tuple(
        classes.Layer(mine.name, other.features, other.errors)
        for mine, other in zip(like.layers, snapshot.layers, strict=True)
    )
    return Snapshot(
        layers,
        snapshot.probabilities,
        snapshot.labels,
        snapshot.sample_weights,
        like.provenance,
        like.model,
    )


@pytest.mark.parametrize("C", [2, 3])
@pytest.mark.parametrize("activation", sorted(TORCH))
def test_an_mlp_is_that_of_torch(activation, C):
    network, X, y = fitted(activation, C)
    made = export_sklearn(network, [(X[:7], y[:7]), (X[7:], y[7:])], None)
    ours = recompute(made)
    assert len(ours) == 7
    assert all(x.ratio <= 1 for x in ours)
    labels = np.searchsorted(network.classes_, y)
    batch = torch.tensor(X), torch.tensor(labels)
    other = export_torch(as_torch(network), [batch], None)
    assert all(x.ratio <= 1 for x in recompute(renamed(other, made)))
    wrong = "logistic" if activation != "logistic" else "tanh"  # the mutant
    network.activation = wrong
    mutant = export_torch(as_torch(network), [batch], None)
    assert any(x.ratio > 1 for x in recompute(renamed(mutant, made)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [2, 3])
def test_probabilities_are_scikit_learns(C, dtype):
    for network, X, y in (fitted("tanh", C, dtype), regression(C, dtype)):
        made = export_sklearn(network, [(X, y)], None)
        order = np.argsort(np.searchsorted(network.classes_, y), kind="stable")
        p = network.predict_proba(X[order]).astype(np.float64)
        theirs = Snapshot(
            made.layers,
            p / p.sum(axis=1, keepdims=True),
            made.labels,
            made.sample_weights,
            made.provenance | {"dtype": np.dtype(dtype).name},
            made.model,
        )
        assert recompute(theirs)[0].ratio <= 1
        assert made.provenance["class_names"] == [str(x) for x in network.classes_]
        assert np.array_equal(made.model.inputs, X[order])
        rolled = Snapshot(
            made.layers,
            np.roll(theirs.probabilities, 1, axis=1),
            made.labels,
            made.sample_weights,
            theirs.provenance,
            made.model,
        )
        assert recompute(rolled)[0].ratio > 1  # the mutant


def regression(C, dtype=np.float64, **how):
    X, y = wines(C, dtype)
    return LogisticRegression(C=0.5, **how).fit(X, y), X, y


def test_a_binary_fisher_is_doubled_in_the_last_layer():
    """[[F, -F], [-F, F]] with F of the one logit: sum_n p (1 - p) x x' / N."""
    network, X, y = regression(2)
    made = export_sklearn(network, [(X, y)], None)
    whole = curvature.fisher(made).matrix()
    Y = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    z = Y @ np.concatenate([network.coef_[0], network.intercept_])
    e = np.exp(-np.abs(z))
    weights = e / (1 + e) ** 2 / len(X)
    F = (Y * weights[:, None]).T @ Y
    d, size = len(F), np.abs(Y * weights[:, None]).T @ np.abs(Y)
    spread = 1 + 2 * np.max(np.abs(Y) @ np.abs(np.append(network.coef_, 1)))
    bound = rounding.gamma(64 + 4 * len(X) + 2 * d, U) * spread * size
    for rows, columns, sign in ((0, 0, 1), (0, 1, -1), (1, 0, -1), (1, 1, 1)):
        block = whole[rows * d : (rows + 1) * d, columns * d : (columns + 1) * d]
        assert np.all(np.abs(block - sign * F) <= bound)
        assert not np.all(np.abs(block - sign * F / 2) <= bound)  # the mutant


def test_a_regression_without_intercept_has_no_bias():
    network, X, y = regression(3, fit_intercept=False)
    made = export_sklearn(network, [(X, y)], None)
    assert made.layers[0].features.shape[2] == X.shape[1]
    assert made.model.operations[0]["bias"] is None
    assert all(x.ratio <= 1 for x in recompute(made))


def test_a_pipeline_and_files(tmp_path):
    wine = load_wine()
    X, y = wine.data, wine.target_names[wine.target]
    network = MLPClassifier((6,), max_iter=20, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(X, y)
    batches = [(X[k::4], y[k::4]) for k in range(4)]
    paths = [
        export_sklearn(model, batches, tmp_path / f"run{kind}", layers=["coefs_1"])
        for kind in (".npz", ".zarr")
    ]
    assert export.digest(paths[0]) == export.digest(paths[1])
    made = export.load(paths[0])
    assert [x.name for x in made.layers] == ["coefs_1"]
    assert "StandardScaler" in made.provenance["architecture"]
    assert all(x.ratio <= 1 for x in recompute(made))
    direct = export_sklearn(network, [(model[:-1].transform(X), y)], None)
    assert np.array_equal(
        np.sort(direct.model.inputs, axis=0), np.sort(made.model.inputs, axis=0)
    )
    assert models.from_section(made.model).operations[1]["op"] == "relu"


def test_what_is_refused(tmp_path):
    network, X, y = fitted("relu")
    for bad in (SGDClassifier(), make_pipeline(StandardScaler(), SGDClassifier()), 3):
        with pytest.raises(TypeError, match=r"got (SGDClassifier|int)"):
            export_sklearn(bad, [(X, y)], None)
    with pytest.raises(ValueError, match="not fitted"):
        export_sklearn(MLPClassifier(), [(X, y)], None)
    several = MLPClassifier((3,), max_iter=5).fit(X, np.eye(3)[[0, 1, 2] * 12])
    with pytest.raises(ValueError, match="got 3 outputs through 'logistic'"):
        export_sklearn(several, [(X, y)], None)
    for loader, message in [
        ([], "at least one batch"),
        ([X], "for two arrays X and y"),
        ([(X, np.full(len(X), "cider"))], r"\['cider', 'cider', 'cider'\] in batch 0"),
        ([(X, y[:3])], rf"\(batch,\) = \({len(X)},\)"),
        ([(X, y), (X[:0], y[:0])], "batch 1 must hold a sample"),
        ([(X[:, :4], y)], r"shape \(a,\) = \(13,\), got \(4,\)"),
        ([(X * np.nan, y)], "finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            export_sklearn(network, loader, tmp_path / "run.zarr")
    for layers in (["nine"], [], ["coefs_0", "coefs_0"]):
        with pytest.raises(ValueError, match=r"among .*'coefs_2'"):
            export_sklearn(network, [(X, y)], tmp_path / "run.npz", layers=layers)
    assert not list(tmp_path.iterdir())


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "refspec.exporters.sklearn")
    with pytest.raises(ImportError, match=r"refspec\[sklearn\]"):
        import refspec.exporters.sklearn  # noqa: F401
