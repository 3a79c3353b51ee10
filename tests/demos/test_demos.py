"""Every demo's assertion holds in quick mode, and its picture is written."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMOS = Path(__file__).parents[2] / "demos"
SHARED = {"setting", "gallery", "second_order"}
SCRIPTS = sorted(
    x.stem
    for x in DEMOS.glob("*.py")
    if x.stem not in SHARED and not x.stem.startswith("howto")
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_demo(name, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", DEMOS / f"{name}.py", "--quick", "--plot", "."],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg", "DISPLAY": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert [x.name for x in tmp_path.iterdir()] == [f"{name}.png"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_demo_states_its_claim_and_ends_in_its_assertion(name):
    tree = ast.parse((DEMOS / f"{name}.py").read_text())
    assert ast.get_docstring(tree).splitlines()[0].endswith(".")
    last = tree.body[-1]
    last = last.body[-1] if isinstance(last, ast.For) else last
    assert isinstance(last, ast.Assert)
    assert f"`{name}.py`" in (DEMOS / "README.md").read_text()
