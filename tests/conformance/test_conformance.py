"""Every peer against the oracle; `make conformance` writes the outcome to table.md.

An outcome is *agrees* (within the bound of two right answers), *differs* with the
convention that explains it, *cannot tell* (which is not the peer's failure), or *not
run* with the peer's own error. A main branch that cannot be installed is named, with
the message, under the table; what is known of an earlier commit stays. The table is
what was found, not what should be: a test fails where an outcome is another than the
table's at the same versions. What differs is explained in findings.md.
"""

import datetime
import json
import os
import re
import sys
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
matrix too. *not run*: the library's own message. *not asked*: refspec.testing has no
Hessian of a network with attention, and of one with a norm only the part of its layers'
parameters, so not its spectrum. What differs is explained in
[findings.md](findings.md). Last written on {today}; a row is of the version it names.

| library | version | asked | MLP | CNN | batch norm | residual | attention |
|---|---|---|---|---|---|---|---|
"""
NOT_RUN = "\n## Main branches that could not be installed when last asked for\n\n"
ROWS = {}
MAIN = (
    Path(sys.prefix) / "not-installed"
)  # written with the environment of main branches


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


def not_installed():
    """Return the main branches that could not be installed, and why; None: no such."""
    if not MAIN.exists():
        return None
    return dict(re.split(": +", x, maxsplit=1) for x in MAIN.read_text().splitlines())


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
    if package in (not_installed() or {}):
        pytest.skip(f"the main branch of {package} is not installed")
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
        table, _, rest = TABLE.read_text().partition(NOT_RUN)
        kept = [x.strip("| ").split(" | ") for x in table.splitlines()]
        made = {tuple(row[:3]) for row in ROWS.values()}
        head = "library", "version", "asked"
        kept = [x for x in kept if len(x) == 8 and tuple(x[:3]) not in {head, *made}]
        every = sorted([*kept, *ROWS.values()], key=lambda x: (x[0], x[2], x[1]))
        lines = ["| " + " | ".join(row) + " |" for row in every]
        absent = not_installed()
        if absent is not None:
            said = [f"- {name}: not run: {text}\n" for name, text in absent.items()]
            rest = "".join(said) or "None.\n"
        head = HEAD.format(today=datetime.datetime.now(datetime.UTC).date())
        TABLE.write_text(head + "\n".join(lines) + "\n" + NOT_RUN + rest)
    assert "| agrees |" in TABLE.read_text()
