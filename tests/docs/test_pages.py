"""The commands on the pages run as written, each page in a folder of its own.

What is Python there is run as doctests; pages of frameworks by `make test-frameworks`.
"""

import pathlib
import re
import shlex

import pytest

import refspec
from support.command import run

HOWTO = sorted((pathlib.Path(__file__).parents[2] / "docs" / "howto").glob("*.md"))


def commands(page):
    """Return the words of every command of a page: `$ refspec ...` of its consoles."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(x.startswith("$ refspec ") for x in lines)
    return [shlex.split(x)[2:] for x in lines]


@pytest.mark.slow
@pytest.mark.parametrize("page", [*filter(commands, HOWTO)], ids=lambda x: x.stem)
def test_commands_run_as_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snapshot = refspec.datasets.iris_decay()
    refspec.save(snapshot, "mine.npz")
    refspec.save(snapshot, "mine.zarr")
    for words in commands(page):
        found = run(*words)
        assert found.exit_code == 0, (words, found.output)
    written = re.findall(r"(?:-o|--plot|--json) (\w+\.\w+)", page.read_text("utf-8"))
    assert all(pathlib.Path(x).stat().st_size for x in written)


def test_the_index_lists_every_page():
    index = (HOWTO[0].parent / "index.md").read_text("utf-8")
    listed = re.search(r"```\{toctree\}(.*?)```", index, re.DOTALL)[1].split()
    assert {x.stem for x in HOWTO} - {"index"} <= set(listed)
