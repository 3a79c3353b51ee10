"""The how-to pages state a claim, end in its assertion, and hold."""

import ast

import pytest

from support.howto import DEMOS, run

SCRIPTS = sorted(x.stem for x in DEMOS.glob("howto_*.py"))


@pytest.mark.slow
def test_property_test(tmp_path):
    run("howto_property_test", tmp_path)


SHORT = [f"howto_test_your_{x}" for x in ("lanczos", "density", "trace", "inverse")]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_short_page(name, tmp_path):
    """In fewer than 20 lines of program, and it holds."""
    _, *lines = (DEMOS / f"{name}.py").read_text().splitlines()
    assert sum(bool(x.strip()) for x in lines) < 20
    assert run(name, tmp_path)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_states_its_claim_and_ends_in_its_assertion(name):
    tree = ast.parse((DEMOS / f"{name}.py").read_text())
    assert ast.get_docstring(tree).splitlines()[0].endswith(".")
    assert isinstance(tree.body[-1], ast.Assert)
    assert f"`{name}.py`" in (DEMOS / "README.md").read_text()
