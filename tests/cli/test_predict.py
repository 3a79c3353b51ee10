"""`refspec predict` plants the recipe again and compares spectrum and law."""

import functools
import json

import numpy as np
import pytest

import refspec
from refspec import models
from refspec.synthetic import Recipe
from support import command

run = functools.partial(command.run, columns=200)


def plant(tmp_path, name="w.npz", dtype="float64", **fields):
    small = {"classes": 3, "dim": 60, "per_class": 20, "strength": 6.0}
    world = Recipe(**{**small, **fields}).plant(dtype=dtype)
    return refspec.save(world.snapshot, tmp_path / name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_table_json_and_picture(tmp_path, dtype):
    path = plant(tmp_path, dtype=dtype)
    record, picture = tmp_path / "p.json", tmp_path / "p.png"
    result = run("predict", path, "--json", record, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert "Kolmogorov-Smirnov" in result.output
    assert "overlap" in result.output
    assert picture.stat().st_size > 1000
    data = json.loads(record.read_text())
    assert data["dimension"] == len(data["eigenvalues"]) == 60
    assert data["distance"] <= 4 / 60
    assert len(data["outliers"]["values"]) == 2
    assert all(abs(z) <= 5 for z in data["outliers"]["scores"])
    assert data["bands"][-1]["found"] == 58


def test_random_means_are_a_band(tmp_path):
    path = plant(tmp_path, means="random", strength=30.0, covariance="toeplitz:0.3")
    record = tmp_path / "p.json"
    assert run("predict", path, "--json", record).exit_code == 0
    data = json.loads(record.read_text())
    assert data["bands"][-1]["found"] == round(data["bands"][-1]["count"]) == 3


def test_more_parameters_than_rows(tmp_path):
    result = run("predict", plant(tmp_path, dim=300, per_class=10), "--of", "errors")
    assert result.exit_code == 0, result.output
    assert "zero: expected 210, found 210" in result.output


@pytest.mark.slow
def test_gradients_errors_and_features_of_one_layer(tmp_path):
    path = plant(
        tmp_path,
        dim=10,
        feature_dim=8,
        per_class=30,
        means="orthogonal",
        gains=(1.0, 1.5),
    )
    result = run("predict", path, "--layer", "layer2")
    assert result.exit_code == 0, result.output
    for text in ("sum of the 3 outliers", "largest eigenvalue by KFAC"):
        assert text in result.output
    for of, d in (("errors", 10), ("features", 8)):
        result = run("predict", path, "--layer", "layer1", "--of", of)
        assert f"of {d} values" in result.output, result.output


@pytest.mark.parametrize(
    "how",
    [
        ("--groups", "8"),
        ("--covariances", "shrunk"),
        ("--layer", "coefs_1"),
        ("--layer", "coefs_2", "--layer", "coefs_1"),
        ("--fitted",),
        ("--head", "4"),
    ],
)
def test_a_layer_of_a_network(tmp_path, how):
    path = refspec.save(refspec.datasets.wine_sklearn(), tmp_path / "wine.npz")
    record, picture = tmp_path / "p.json", tmp_path / "p.png"
    result = run("predict", path, *how, "--json", record, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert "assumes: " in result.output
    assert picture.stat().st_size > 1000
    data = json.loads(record.read_text())
    assert len(data["eigenvalues"]) == len(data["measured"]) == data["dimension"]
    assert len(data["assumes"]) == 3
    assert ("class alone" in data["assumes"][0]) == (how == ("--layer", "coefs_1"))
    assert ("all layers are together" in data["assumes"][0]) == ("coefs_2" in how)
    assert ("those of a fit" in data["assumes"][0]) == ("--fitted" in how)
    assert ("8 groups of samples" in " ".join(result.output.split())) == (
        "estimation" in data
    )
    assert ("estimation" in data) == ("--groups" in how)
    cut = "the 4 leading directions of 9 " in " ".join(data["assumes"])
    assert cut == ("--head" in how)


@pytest.mark.slow
def test_a_convolution(tmp_path):
    """Of a network that is not trained, four positions of five features."""
    rng = np.random.default_rng(0)
    how = {"kernel": 2, "stride": 2, "padding": 0, "pool": 1, "rng": rng}
    network = models.cnn((1, 4, 4), [2], 3, **how)
    X, labels = rng.standard_normal((60, 1, 4, 4)), np.arange(60) % 3
    snapshot = models.snapshot(network, X + labels[:, None, None, None], labels)
    path = refspec.save(snapshot, tmp_path / "cnn.npz")
    result = run("predict", path, "--layer", "conv1", "--covariances", "shrunk")
    assert result.exit_code == 0, result.output
    assert "all 4 positions" in result.output
    assert "of 10 values" in result.output
    both = run("predict", path, "--layer", "conv1", "--layer", "linear2")
    assert both.exit_code == 2
    assert "take it alone" in " ".join(both.output.split())


def test_wrong_use_exits_with_two(tmp_path):
    two = plant(tmp_path, "two.npz", gains=(1.0, 2.0))
    three = plant(tmp_path, "three.npz", gains=(1.0, 2.0, 3.0))
    network = refspec.save(refspec.datasets.digits_mlp(), tmp_path / "digits.npz")
    for words in (
        (network, "--of", "errors"),
        (network, "--layer", "nope"),
        (network, "--layer", "fc1", "--layer", "nope"),
        (network, "--groups", "1"),
        (network, "--groups", "8", "--drawn"),
        (network, "--layer", "fc3", "--layer", "fc3"),
        (network, "--layer", "fc2", "--drawn"),
        (network, "--layer", "fc2", "--layer", "fc3", "--drawn"),
        (network, "--fitted", "--drawn"),
        (two, "--layer", "layer1", "--covariances", "pooled"),
        (two, "--layer", "layer1", "--head", "4"),
        (two, "--of", "errors"),
        (two, "--layer", "nope"),
        (two, "--layer", "layer1", "--layer", "layer1"),
        (three, "--layer", "layer1", "--layer", "layer2"),
        (two, "--layer", "layer1", "--of", "hessian"),
        (tmp_path / "absent.npz",),
        (two, "--layer", "layer1", "--plot", "/no/such/folder/p.png"),
        (two, "--layer", "layer1", "--plot", tmp_path / "p.abc"),
        (),
    ):
        assert run("predict", *words).exit_code == 2, words
    text = run("predict", network, "--of", "errors").output
    assert "needs the population of a planted world" in text


def test_a_world_that_no_law_knows_is_refused_like_other_data(tmp_path):
    result = run("predict", plant(tmp_path, law="student", dof=3.0))
    assert result.exit_code == 1
    assert "fourth moment" in result.output


def test_several_layers_together(tmp_path):
    result = run("predict", plant(tmp_path, gains=(1.0, 2.0)))
    assert result.exit_code == 0, result.output
    assert "layer1, layer2" in result.output
    small = {"feature_dim": 4, "dim": 8, "gains": (1.0, 2.0)}
    result = run("predict", plant(tmp_path, **small))
    assert result.exit_code == 1
    assert "in 2 of 2" in result.output


def test_what_dependent_worlds_assume_is_said(tmp_path):
    result = run("predict", plant(tmp_path, score_consistent=True))
    assert result.exit_code == 0, result.output
    assert "scores are consistent" in result.output
    small = {"feature_dim": 4, "coupling": 0.5, "dim": 8}
    result = run("predict", plant(tmp_path, **small))
    assert result.exit_code == 0, result.output
    assert "half of the samples of each class have either sign" in " ".join(
        result.output.split()
    )


def test_a_file_that_is_not_its_recipe_exits_with_one(tmp_path):
    snapshot = refspec.load(plant(tmp_path))
    layer = snapshot.layers[0]
    errors = np.array(layer.errors)
    errors[0, 0, 0, 0] += 1e-6
    for changed in (
        refspec.Layer("layer1", layer.features, errors),
        refspec.Layer("other", layer.features, layer.errors),
        refspec.Layer("layer1", layer.features, layer.errors[:, :, :, :5]),
    ):
        other = refspec.Snapshot(
            (changed,),
            snapshot.probabilities,
            snapshot.labels,
            snapshot.sample_weights,
            dict(snapshot.provenance),
        )
        path = refspec.save(other, tmp_path / "changed.npz")
        result = run("predict", path)
        assert result.exit_code == 1, result.output
    recipe = {**snapshot.provenance["recipe"], "classes": "many"}
    other = refspec.Snapshot(
        snapshot.layers,
        snapshot.probabilities,
        snapshot.labels,
        snapshot.sample_weights,
        {**snapshot.provenance, "recipe": recipe},
    )
    path = refspec.save(other, tmp_path / "bad.npz")
    assert run("predict", path).exit_code == 1


def test_what_is_assumed_and_means_between_bands_are_said(tmp_path):
    fields = {"per_class": 30, "covariance": "low-rank:3", "noise": (1.0, 2.0, 3.0)}
    path = plant(tmp_path, dim=24, **{**fields, "strength": 2.0})
    record = tmp_path / "p.json"
    result = run("predict", path, "--of", "errors", "--json", record)
    assert result.exit_code == 0, result.output
    data = json.loads(record.read_text())
    assert all(f"assumes: {x}" in result.output for x in data["assumes"])
    assert "noise is Gaussian" in data["assumes"]
    assert len(data["inner"]["values"]) == 2
    assert "means between bands" in result.output
    counts = [(x["count"], x["found"]) for x in data["bands"]]
    assert all(a == b for a, b in counts)


def test_noise_without_a_fourth_moment_has_a_mean(tmp_path):
    path = plant(tmp_path, law="student", dof=2.5)
    result = run("predict", path)
    assert result.exit_code == 1
    assert "mean of all eigenvalues" in " ".join(result.output.split())
