"""Every peer against the oracle; `make conformance` writes the outcome to table.md.

An outcome is *agrees* (within the bound of two right answers), *differs* with the
convention that explains it, or *fails* with the peer's own error. The table is what was
found, not what should be: a test fails where an outcome is another than the table's at
the same versions.
"""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import peers
import pytest

import networks

TABLE = Path(__file__).parent / "table.md"
HEAD = """# Peers against the oracle

Written by `make conformance`; float64, 100 samples, an MLP (the embedded network) and a
CNN fitted to digits. *agrees*: within the bound of two right answers, at most {worst}
of it used.

| library | version | asked | MLP | CNN |
|---|---|---|---|---|
"""
ROWS, USED = {}, []


def outcome(ask, case):
    """Run one question and put its outcome in a few words."""
    try:
        found = ask(case)
    except AssertionError as error:
        return "differs: " + _diagnosis(str(error))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return f"fails: {type(error).__name__}: {first[:80]}".replace("|", "/")
    pairs = found.values() if isinstance(found, dict) else [_pair(found)]
    USED.extend(a / b for a, b in pairs if b > 0)
    return "agrees"


def _pair(found):
    return found.distance, found.radius


def _diagnosis(text):
    lines = [x.strip() for x in text.splitlines()]
    named = [x for x in lines if x.startswith("diagnosis")]
    line = (named or lines[:1])[0]
    return line.removeprefix("diagnosis").strip(" :").replace("|", "/")


@pytest.mark.parametrize(("package", "asked"), sorted(peers.QUESTIONS))
def test_peer(package, asked):
    try:
        release = version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    ask, only = peers.QUESTIONS[package, asked]
    cells = [
        outcome(ask, make()) if only in (None, name) else "not asked"
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
        lines = ["| " + " | ".join(ROWS[key]) + " |" for key in sorted(ROWS)]
        worst = f"{max(USED):.0%}"
        TABLE.write_text(HEAD.format(worst=worst) + "\n".join(lines) + "\n")
    assert "| agrees |" in TABLE.read_text()
