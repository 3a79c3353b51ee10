"""Every peer against the oracle; `make conformance` writes the outcome to table.md.

An outcome is *agrees* (within the bound of two right answers), *differs* with the
convention that explains it, *cannot tell* (which is not the peer's failure), or *not
run* with the peer's own error. The table is what was found, not what should be: a test
fails where an outcome is another than the table's at the same versions. What differs is
explained in findings.md.
"""

import json
import os
import re
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import peers
import pytest

import networks

TABLE = Path(__file__).parent / "table.md"
HEAD = """# Peers against the oracle

Written by `make conformance`, `conformance-main` and `conformance-kfac-jax`; float64,
100 digits, an MLP (the embedded network), a CNN, and one network each with batch norm,
a residual sum and attention. *agrees*: within the bound of two right answers.
*differs*: with the name that the oracle gives; a default that is another than refspec's
is a convention, not a failure. *cannot tell*: what was given would pass of twice the
matrix too. *not run*: the library's own message. *not yet run*: asked of this network
since that release was last run. *not asked*: refspec.testing has no
Hessian of a network with attention, and of one with a norm only the part of its layers'
parameters, so not its spectrum. What differs is explained in
[findings.md](findings.md).

| library | version | asked | MLP | CNN | batch norm | residual | attention |
|---|---|---|---|---|---|---|---|
"""
ROWS = {}


def outcome(ask, case):
    """Run one question and put its outcome in a few words."""
    try:
        found = ask(case)
    except AssertionError as error:
        return "differs: " + _diagnosis(str(error))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        first = re.sub(r" \(/[^)]*\)?", "", first)  # where a machine has a module
        if first.startswith("cannot tell"):
            return first[:100].replace("|", "/")
        return f"not run: {type(error).__name__}: {first[:80]}".replace("|", "/")
    return "agrees" if found else "not asked"


def released(package):
    """Return a release, or the commit that a main branch was installed from."""
    text = distribution(package).read_text("direct_url.json")
    commit = json.loads(text).get("vcs_info", {}).get("commit_id") if text else None
    return f"main {commit[:7]}" if commit else version(package)


def _diagnosis(text):
    lines = [x.strip() for x in text.splitlines()]
    named = [x for x in lines if x.startswith("diagnosis")]
    names = [x.rsplit("[", 1)[1].split(";")[0].rstrip("]") for x in named if "[" in x]
    return ", ".join(names) or "none fits" if named else lines[0].replace("|", "/")


@pytest.mark.parametrize(("package", "asked"), sorted(peers.QUESTIONS))
def test_peer(package, asked):
    try:
        release = released(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    ask, only = peers.QUESTIONS[package, asked]
    cells = [
        outcome(ask, make()) if only is None or name in only else "not asked"
        for name, make in networks.CASES.items()
    ]
    ROWS[package, asked] = [package, release, asked, *cells]
    if "REFSPEC_WRITE" not in os.environ and TABLE.exists():
        rows = [x.strip("| ").split(" | ") for x in TABLE.read_text().splitlines()]
        for row in rows:
            if row[:3] == [package, release, asked]:
                assert cells == row[3:]


def test_the_table_is_written():
    if "REFSPEC_WRITE" in os.environ:
        kept = [x.strip("| ").split(" | ") for x in TABLE.read_text().splitlines()]
        made = {tuple(row[:3]) for row in ROWS.values()}
        kept = [x for x in kept if len(x) == 8 and tuple(x[:3]) not in made]
        every = sorted([*kept[2:], *ROWS.values()], key=lambda x: (x[0], x[2], x[1]))
        lines = ["| " + " | ".join(row) + " |" for row in every]
        TABLE.write_text(HEAD + "\n".join(lines) + "\n")
    assert "| agrees |" in TABLE.read_text()
