"""Write theory/claims.md from committed results.

python -m refspec.claims demos/results/claims/*.json > theory/claims.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from refspec.claims.catalogue import CLAIMS

_MARKS = {
    "holds": "holds",
    "holds in part": "in part",
    "does not hold": "**no**",
    "cannot be judged": "-",
}

_OPENING = """# Claims: what is said about trained networks, and what networks say

A theorem is true of every network. A claim is a sentence about trained networks and
may be false of one. `refspec claims` measures it; this page does so on networks of the
size of the paper's. Thresholds were fixed in the code before the networks were trained;
"holds in part" also says that places disagree. It is written by `python -m
refspec.claims demos/results/claims/*.json`; `tests/networks/judged.py` trains the
networks and judges them.
"""


def page(records: list[dict[str, Any]]) -> str:
    """Return the page: networks, a table of claims by networks, what was found."""
    names = [f"{x['network']} ({x['samples']})" for x in records]
    lines = [_OPENING, "## The networks", ""]
    heads = ("network", "P", "N", "epochs", "loss", "test error", "gradient", "on")
    lines += _table(
        heads, [_network(x, n) for x, n in zip(records, names, strict=True)]
    )
    lines += ["", "## Claims by networks", ""]
    rows = [
        [f"[{id}](#{id})", claim.title, *(_verdict(x, id) for x in records)]
        for id, claim in CLAIMS.items()
    ]
    lines += _table(("", "claim", *names), rows)
    for id, claim in CLAIMS.items():
        lines += ["", f'<a id="{id}"></a>', "", f"## {id}. {claim.title}", ""]
        lines += [f"**Claimed.** {claim.sentence[0].upper()}{claim.sentence[1:]}."]
        lines += ["", f"**Source.** {claim.source}.", ""]
        lines += [f"**Measured.** {claim.numbers[0].upper()}{claim.numbers[1:]}.", ""]
        lines += [f"**Threshold.** {claim.threshold[0].upper()}{claim.threshold[1:]}."]
        for x, name in zip(records, names, strict=True):
            places = [y for c in x["claims"] if c["id"] == id for y in c["places"]]
            lines += ["", f"*{name}*", ""] if places else []
            lines += [f"- {y['place']}: {y['verdict']}; {y['reason']}" for y in places]
    return "\n".join(lines) + "\n"


def _network(x: dict[str, Any], name: str) -> list[str]:
    """Return how one was trained, a cell each."""
    facts = x["trained"]
    return [
        name,
        f"{x['parameters']:,}",
        str(x["samples"]),
        str(x["epochs"]),
        f"{facts['mean_loss']:.2g}",
        f"{facts['test_error']:.3f}",
        f"{facts['gradient_norm']:.2g}",
        f"{x['machine']}, {x['date']}",
    ]


def _verdict(x: dict[str, Any], id: str) -> str:
    """Return the verdict of a claim on a network."""
    found = [c["verdict"] for c in x["claims"] if c["id"] == id]
    return _MARKS[found[0]] if found else "-"


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(x)} |" for x in lines]


if __name__ == "__main__":
    paths = sorted(map(Path, sys.argv[1:]))
    sys.stdout.write(page([json.loads(x.read_text()) for x in paths]))
