"""The how-to pages state a claim, end in its assertion, and hold."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

DEMOS = Path(__file__).parents[1] / "demos"
SCRIPTS = sorted(x.stem for x in DEMOS.glob("howto_*.py"))


def run(name, folder):
    """Run a page with warnings as errors, in a folder that it leaves empty."""
    done = subprocess.run(
        [sys.executable, "-W", "error", DEMOS / f"{name}.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [x for x in folder.iterdir() if x.name != ".hypothesis"]


@pytest.mark.slow
def test_property_test(tmp_path):
    run("howto_property_test", tmp_path)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_states_its_claim_and_ends_in_its_assertion(name):
    tree = ast.parse((DEMOS / f"{name}.py").read_text())
    assert ast.get_docstring(tree).splitlines()[0].endswith(".")
    assert isinstance(tree.body[-1], ast.Assert)
    assert f"`{name}.py`" in (DEMOS / "README.md").read_text()
