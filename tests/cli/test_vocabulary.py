"""One word for one thing over all commands, JSON from each, completion by a shell."""

import json
import os
import subprocess
import sys
import typing
from enum import StrEnum

import numpy as np
import pytest
import typer

import refspec
from refspec import backend, hessian
from refspec.cli.app import app
from refspec.kronecker import compare_layer
from refspec.synthetic import PRESETS, from_record
from support.command import run
from support.snapshots import sampled

NONE = type(None)
COMMANDS = {
    name: {x.name: x for x in command.params if x.opts[0].startswith("--")}
    for name, command in typer.main.get_command(app).commands.items()
}


def options():
    """Yield (command, option, name of the parameter, type without choices)."""
    for command in app.registered_commands:
        name = command.callback.__name__
        hints = typing.get_type_hints(command.callback, include_extras=True)
        for parameter, x in COMMANDS[name].items():
            declared, *_ = typing.get_args(hints[parameter])
            kinds = {k for k in typing.get_args(declared) or [declared]}
            # one that may be given several times takes the same each time
            kinds = {str if k == list[str] else k for k in kinds}
            kind = {"choice" if issubclass(k, StrEnum) else k for k in kinds - {NONE}}
            yield name, x.opts[0], parameter, frozenset(kind)


def test_an_option_takes_the_same_in_every_command():
    """It holds the same kind of thing under the same name; choices may be fewer."""
    seen = {}
    for command, word, *what in options():
        seen.setdefault(word, {}).setdefault(tuple(what), []).append(command)
    assert not {word: kinds for word, kinds in seen.items() if len(kinds) > 1}


def test_every_command_writes_json():
    having = {command for command, word, *_ in options() if word == "--json"}
    assert having == set(COMMANDS)


def test_every_command_is_in_the_tour_or_its_panels():
    said = run("--help", columns=200).output
    assert all(f" {name} " in said for name in COMMANDS)
    for name in ("predict", "claims", "attribute", "report"):
        assert f"refspec {name}" in said


def test_check_writes_what_it_says(tmp_path):
    record = tmp_path / "c.json"
    assert run("check", "--json", record).exit_code == 0
    found = json.loads(record.read_text())
    assert (found["schema"], found["good"], found["samples"]) == (
        "refspec.check/1",
        True,
        400,
    )
    assert set(found["layers"]) == {"fc1", "fc2", "fc3"}
    assert all(x["ratio"] <= 1 for x in found["recomputed"].values())


@pytest.mark.slow
def test_report_writes_what_it_is_drawn_from(tmp_path):
    wine = refspec.save(refspec.datasets.wine_sklearn(), tmp_path / "wine.npz")
    page, record = tmp_path / "w.html", tmp_path / "w.json"
    words = ("--no-verify", "--no-per-layer", "-o", page, "--json", record)
    result = run("report", wine, *words)
    assert result.exit_code == 0, result.output
    found = json.loads(record.read_text())
    assert found["coverage"]["sentence"].startswith("covers all")
    assert len(found["fisher"]["kinds"]) <= len(found["fisher"]["values"])
    assert found["claims"][0]["id"] == "F"
    assert found["records"] == []


@pytest.mark.parametrize("words", [(), ("--certify",), ("--top", "7")])
def test_the_spectrum_of_a_hessian_is_that_of_its_matrix(words, tmp_path):
    record, picture = tmp_path / "h.json", tmp_path / "h.png"
    where = ("--layer", "fc3", "--json", record, "--plot", picture)
    result = run("spectrum", "--of", "hessian", *where, *words)
    assert result.exit_code == 0, result.output
    found = json.loads(record.read_text())
    H = hessian.of_snapshot(refspec.datasets.digits_mlp(), ["fc3"])
    values = np.linalg.eigvalsh(H)[::-1][: len(found["values"])]
    # two eigensolvers, each within its radius of the exact one
    assert np.abs(values - found["values"]).max() <= 2 * found["radius"]
    assert len(values) == (7 if "--top" in words else 170)
    assert found["complete"] == ("--top" not in words)
    assert ("certified" in found["kind"]) == ("--certify" in words)
    assert picture.stat().st_size > 0


def test_top_limits_what_kfac_computes(tmp_path, monkeypatch):
    asked = []

    def compared(*arguments, top, **options):
        asked.append(top)
        return compare_layer(*arguments, top=top, **options)

    monkeypatch.setattr("refspec.cli.kfac.compare_layer", compared)
    record = tmp_path / "k.json"
    result = run("kfac", "--layer", "fc3", "--top", 4, "--json", record)
    assert asked == [4]
    assert "the Fisher's top 4 eigenvalues" in result.output
    assert len(json.loads(record.read_text())["layers"]["fc3"]["fisher"]) == 4


def test_columns_have_heads_when_piped():
    lines = run("verify", "--only", "L1,L3", columns=400).output.splitlines()
    (head,) = [x for x in lines if x.startswith("id ")]
    row = next(x for x in lines if x.startswith("L3 "))
    heads = head.split()
    assert heads == [
        "id",
        "title",
        "verdict",
        "residual",
        "bound",
        "margin",
        "sees",
        "time",
        "of",
    ]
    begins = [head.index(f" {x} ") + 1 for x in heads[1:-1]]
    assert all(row[k - 1] == " " != row[k] for k in begins)
    assert row[begins[1] :].startswith("holds")
    values = run("spectrum", "--layer", "fc3", "--top", 2).output.splitlines()
    at = values.index("    k  eigenvalue")
    assert [x.split()[0] for x in values[at + 1 : at + 3]] == ["1", "2"]


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_a_recipe_that_options_change(name, tmp_path):
    path = tmp_path / "w.npz"
    assert run("synth", "-o", path, "--preset", name).exit_code == 0
    assert from_record(refspec.load(path).provenance["recipe"]) == PRESETS[name].recipe
    words = ("--preset", name, "--seed", 3, "--per-class", 4)
    assert run("synth", "-o", path, *words).exit_code == 0
    made = from_record(refspec.load(path).provenance["recipe"])
    kept = PRESETS[name].recipe
    assert (made.seed, made.per_class) == (3, 4)
    assert (made.dim, made.strength) == (kept.dim, kept.strength)


def test_presets_show_what_they_say():
    """Of the planted errors: what is called outlier, bump, bulk."""
    counts = {}
    for name in ("noise", "outliers", "levels"):
        snapshot = PRESETS[name].recipe.plant().snapshot
        found = refspec.attribute(refspec.errors(snapshot, "layer1"))
        assert backend.to_host(found.spectrum.values)[0] > 0
        proved = [k for k, yes in zip(found.kinds, found.proved, strict=True) if yes]
        counts[name] = proved.count("outlier"), proved.count("bump")
    assert counts["noise"] == (0, 0)
    assert counts["outliers"] == (10, 0)
    assert counts["levels"][0] == 10
    assert counts["levels"][1] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("refspec at", "attribute"),
        ("refspec spectrum --of h", "hessian"),
        ("refspec attribute --layer f", "fc1 fc2 fc3"),
        ("refspec attribute {iris} --layer fc", "fc1 fc2 fc3"),
        ("refspec attribute none.npz --layer f", ""),
        ("refspec verify --only L1,L8", "L1,L8"),
        ("refspec selftest --only C1", "C1 C10 C11"),
        ("refspec claims --only W", "W"),
    ],
)
def test_a_shell_completes_commands_choices_layers_and_ids(typed, offered, tmp_path):
    path = refspec.save(refspec.datasets.iris_decay(), tmp_path / "iris.npz")
    typed = typed.format(iris=path)
    words = typed.split()
    asked = {"_REFSPEC_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    made = subprocess.run(
        [sys.executable, "-m", "refspec"],
        env=os.environ | asked | {"COMP_CWORD": str(len(words) - 1)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.stdout.split() == offered.split(), made.stderr


def test_a_diagonal_that_nobody_sees_is_counted_with_the_class_means(tmp_path):
    result = refspec.attribute(refspec.datasets.digits_mlp(), top=2)
    output = run("attribute", "--top", 2, columns=100).output
    both = result.shares["between_class"] + result.shares["diagonal"]
    (row,) = [x for x in output.splitlines() if x.split()[:1] == ["1"]]
    assert row.split()[2] == f"{both[0]:.3f}"
    head = output[: output.index(row)]
    assert "diagonal" not in head
    assert "theory/levels.md#L4" in output
    path = refspec.save(sampled(0, (5, 4, 6), [(4, 3)], equal=True), tmp_path / "s.npz")
    assert "c'=c" in run("attribute", path, columns=100).output


def test_a_site_is_known_or_refused(tmp_path):
    words = ("verify", "--only", "L1", "--site")
    assert run(*words, "https://example.org").exit_code == 0
    refused = run(*words, tmp_path)
    assert refused.exit_code == 2
    assert "make docs" in " ".join(refused.output.split())
