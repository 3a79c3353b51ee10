import json

import pytest
from typer.testing import CliRunner

from refspec import __version__
from refspec.cli import app


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(app, list(words))


def test_attribute_writes_table_json_and_picture(run, tmp_path):
    record, picture = tmp_path / "a.json", tmp_path / "a.png"
    words = ("--layer", "fc3", "--json", str(record), "--plot", str(picture))
    result = run("attribute", *words)
    assert result.exit_code == 0, result.output
    assert "outlier" in result.output
    assert picture.stat().st_size > 0
    data = json.loads(record.read_text())
    assert 0 < len(data["kinds"]) <= len(data["values"])


def test_spectrum_check_and_version(run):
    assert run("spectrum", "--of", "features", "--layer", "fc1").exit_code == 0
    assert "N = 400" in run("check").output
    assert __version__ in run("--version").output


@pytest.mark.parametrize(
    "words",
    [
        ("attribute", "--layer", "nope"),
        ("attribute", "--of", "errors"),
        ("attribute", "absent.npz"),
        ("attribute", "--json", "/no/such/folder/a.json"),
        ("spectrum", "--backend", "abacus"),
    ],
)
def test_wrong_use_exits_with_two(run, words):
    assert run(*words).exit_code == 2


def test_wrong_data_exit_with_one(run, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"not a zip")
    result = run("check", str(bad))
    assert result.exit_code == 1
