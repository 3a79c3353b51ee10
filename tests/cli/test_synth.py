"""`refspec synth` writes an ordinary export that can be planted again."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

import refspec
from refspec.cli.synth import synth
from refspec.synthetic import Recipe, from_record
from support.command import run


def test_the_file_is_an_export_of_its_recipe(tmp_path):
    path, record = tmp_path / "w.npz", tmp_path / "w.json"
    words = "--classes 3 --dim 6 --per-class 2,3,4 --noise 1,2,3 --means random "
    words += "--cross-strength 2 --gains 1,2 --confidence 1 --spread 1 --dtype float32"
    result = run("synth", "-o", str(path), "--json", str(record), *words.split())
    assert result.exit_code == 0, result.output
    assert "expected trace" in result.output
    snapshot = refspec.load(path)
    assert [x.name for x in snapshot.layers] == ["layer1", "layer2"]
    again = from_record(snapshot.provenance["recipe"]).plant(dtype="float32")
    for x, y in zip(snapshot.layers, again.snapshot.layers, strict=True):
        assert np.array_equal(x.errors, y.errors)
    data = json.loads(record.read_text())
    assert from_record(data["recipe"]) == from_record(snapshot.provenance["recipe"])
    assert run("check", path).exit_code == 0


def test_options_are_the_fields_of_a_recipe(tmp_path):
    """Every field is an option, and all defaults together are the default recipe."""
    names = list(inspect.signature(synth).parameters)
    fields = [x.name for x in dataclasses.fields(Recipe)]
    own = ["context", "output", "preset"]
    assert names == [*own, *fields, "dtype", "json_file", "limit"]
    path = tmp_path / "w.npz"
    assert run("synth", "-o", str(path)).exit_code == 0
    assert from_record(refspec.load(path).provenance["recipe"]) == Recipe()


@pytest.mark.parametrize(
    "words",
    [
        "-o w.txt",
        "-o /no/such/folder/w.npz",
        "-o w.npz --per-class 1.5",
        "-o w.npz --noise x",
        "-o w.npz --means cubic",
        "-o w.npz --means orthogonal --dim 3",
        "-o w.npz --covariance toeplitz:7",
        "-o w.npz --law student",
        "",
    ],
)
def test_wrong_use_exits_with_two_and_writes_nothing(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("synth", *words.split()).exit_code == 2
    assert not list(tmp_path.iterdir())
