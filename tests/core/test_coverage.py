"""Coverage: what is stated, what a model section shows, and the sentence of both."""

from dataclasses import replace

import numpy as np
import pytest

from refspec import coverage, datasets, export, models
from refspec.classes import Layer, snapshot
from refspec.coverage import Coverage


def handmade(**provenance):
    layers = [Layer(x, np.ones((3, 1, 2)), np.zeros((3, 2, 1, 4))) for x in "ab"]
    return snapshot(layers, [0, 1, 0], logits=np.zeros((3, 2)), provenance=provenance)


def test_what_is_left_out_is_named_with_its_count():
    found = coverage.of_snapshot(handmade(left_out={"lstm": 5632, "norm": 6}))
    assert str(found) == (
        "covers 16 of 5,654 parameters (2 of 4 modules); left out: lstm 5,632, norm 6"
    )
    assert found.title == "16 of 5,654 parameters"
    assert not found.complete
    assert found.document() == {
        "sentence": str(found),
        "parameters": 16,
        "parameters_in_all": 5654,
        "modules": 2,
        "modules_in_all": 4,
        "left_out": {"lstm": 5632, "norm": 6},
    }


def test_all_layers_is_said_where_it_is_true():
    whole = coverage.of_snapshot(handmade(left_out={}))
    assert (str(whole), whole.title) == (
        "covers all 16 parameters (2 modules)",
        "all layers",
    )
    unknown = coverage.of_snapshot(handmade())
    assert str(unknown) == "coverage not stated"
    assert "all layers" not in unknown.title
    assert not unknown.complete
    assert unknown.document()["parameters_in_all"] is None


def test_a_module_covered_in_part_is_not_a_module_covered():
    found = coverage.of_snapshot(handmade(left_out={"a": 1}))
    said = "covers 16 of 17 parameters (1 of 2 modules, part of 1); left out: a 1"
    assert str(found) == said


def test_many_names_are_cut_short_and_none_is_obeyed():
    found = Coverage({"a": 1}, {f"\x1b[31m{k}": k for k in range(1, 9)})
    assert str(found).endswith("\\x1b[31m5 5, 4 more 10")
    assert "\x1b" not in str(found)


def test_layers_that_are_not_chosen_are_left_out():
    digits = datasets.digits_mlp()
    assert coverage.of_snapshot(digits).complete
    assert coverage.of_snapshot(digits, ["fc2"]).left_out == {"fc1": 2080, "fc3": 170}
    assert coverage.of_snapshot(handmade(), ["a"]).left_out is None
    with pytest.raises(ValueError, match="each of layers"):
        coverage.of_snapshot(digits, ["fc9"])


def test_a_model_section_states_what_a_manifest_does_not():
    rng = np.random.default_rng(0)
    network = models.mlp([3, 4, 2], ["tanh"], rng=rng)
    made = models.snapshot(network, np.ones((4, 3)), [0, 1, 0, 1])
    assert coverage.of_snapshot(made).complete
    part = replace(made, layers=made.layers[1:])
    assert coverage.of_snapshot(part).left_out == {"linear1": 16}
    assert coverage.biases(made) == {"linear1": True, "linear2": True}


def test_fewer_layers_than_were_stated_are_not_what_was_stated():
    made = handmade(left_out={}, layers=["a", "b"])
    assert coverage.of_snapshot(made).complete
    part = replace(made, layers=made.layers[:1])
    assert coverage.of_snapshot(part).left_out is None


def test_a_file_keeps_what_is_stated(tmp_path):
    made = handmade(left_out={"lstm": 5632}, biases={"a": True, "b": False})
    read = export.load(export.save(made, tmp_path / "run.npz"))
    assert coverage.of_snapshot(read).left_out == {"lstm": 5632}
    assert coverage.biases(read) == {"a": True, "b": False}
    silent = export.load(export.save(handmade(), tmp_path / "run.npz"))
    assert coverage.of_snapshot(silent).left_out is None
    assert coverage.biases(silent) == {"a": None, "b": None}


@pytest.mark.parametrize(
    "stated",
    [
        {"left_out": {"x": 0}},
        {"left_out": {"x": True}},
        {"left_out": ["x"]},
        {"left_out": 7},
        {"biases": {"a": 1}},
        {"biases": {"z": True}},
        {"biases": True},
    ],
)
def test_a_file_that_states_nonsense_is_refused(stated):
    arrays = {"labels": np.array([0, 1]), "logits": np.zeros((2, 2))}
    arrays |= {"layers/0/features": np.ones((2, 1, 1))}
    arrays |= {"layers/0/errors": np.ones((2, 2, 1, 1))}
    manifest = {"schema": "refspec.export/1", "layers": ["a"]}
    export.assemble(manifest, arrays)
    with pytest.raises(export.ExportError, match=next(iter(stated))):
        export.assemble(manifest | stated, arrays)


def test_nonsense_in_hand_made_provenance_is_refused():
    for stated in ({"left_out": {"x": -1}}, {"biases": "yes"}):
        with pytest.raises(ValueError, match="of the provenance must be"):
            coverage.statement(handmade(**stated))
    with pytest.raises(TypeError, match="snapshot"):
        coverage.of_snapshot("a snapshot")
    with pytest.raises(TypeError, match="snapshot"):
        coverage.biases(None)
