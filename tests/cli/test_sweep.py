"""`refspec sweep FILE.py:FUNCTION`, and a user's own theorems."""

import functools
import json

import pytest

from support import command

run = functools.partial(command.run, columns=200)

SWEEP = """
import refspec

def claim(n, rng):
    return abs(float(rng.standard_normal(n).mean()))

def run():
    return refspec.sweep(claim, "n", [4, 16, 64], draws=50)

def wrong():
    return 3
"""

THEOREMS = """
from refspec.theorems import identity, inequality

@inequality("A trace is the sum of eigenvalues, which are few", "tr F <= C max l")
def U1(study):
    values = study.basis.values
    trace = float(study.fisher.trace())
    yield trace, len(values) * float(values[0]), trace, "all layers"

@identity("All traces are one", "tr F = 1", question="data")
def U2(study):
    trace = float(study.fisher.trace())
    yield abs(trace - 1), 2.0**-40, 1.0, "all layers"
"""


def written(tmp_path, text, name="mine.py"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_table_rate_json_and_picture(tmp_path):
    file = written(tmp_path, SWEEP)
    record, picture = tmp_path / "s.json", tmp_path / "s.png"
    result = run("sweep", f"{file}:run", "--json", record, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert "rate of claim: -0." in result.output
    assert picture.stat().st_size > 1000
    data = json.loads(record.read_text())
    assert data["schema"] == "refspec.sweep/1"
    assert data["quantities"]["claim"]["rate"]["lower"] < -0.4


@pytest.mark.parametrize("name", ["wrong", "none"])
def test_what_is_no_sweep_is_a_sentence(tmp_path, name):
    result = run("sweep", f"{written(tmp_path, SWEEP)}:{name}")
    assert result.exit_code == 2
    assert "refspec.sweep" in result.output


@pytest.mark.parametrize("command", ["verify", "selftest"])
def test_theorems_of_ones_own(tmp_path, command):
    file = written(tmp_path, THEOREMS)
    result = run(command, "--theorems", file)
    assert result.exit_code == 1, result.output
    assert "FAILS: U2" in result.output
    result = run(command, "--theorems", file, "--only", "U1")
    assert result.exit_code == 0, result.output
    assert " 0 fail" in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "hold theorems, got none"),
        ("raise OSError('disk')", "OSError"),
        (THEOREMS.replace("U1", "L1"), "got L1"),
    ],
)
def test_a_module_that_is_none_is_a_sentence(tmp_path, text, said):
    result = run("verify", "--theorems", written(tmp_path, text, "other.py"))
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    result = run("verify", "--theorems", written(tmp_path, THEOREMS), "--only", "U7")
    assert result.exit_code == 2
    assert "U7" in result.output
