"""Write theory/claims.md from committed results.

python -m refspec.claims demos/results/claims/*.json > theory/claims.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refspec.claims.catalogue import CLAIMS, compare
from refspec.claims.registry import Member

_MARKS = {
    "holds": "holds",
    "holds in part": "in part",
    "does not hold": "**no**",
    "cannot be judged": "- (c)",
}

#: Why a cell has no verdict, by its letter.
_WHY = {
    "a": "a claim about several networks, judged in the last column",
    "b": "asks for features and errors layer by layer, and of this network the Fisher "
    "information alone is known, by differentiation or as a Gram matrix",
    "c": "cannot be judged on this network; its section below says why, place by place",
    "d": "not asked: the time on the device on which the network was trained went to "
    "the others, and a matrix of one of its layers (H, X, U) is too large to be formed",
}

_OPENING = """# Claims: what is said about trained networks, and what networks say

A theorem is true of every network. A claim is a sentence about trained networks and
may be false of one. `refspec claims` measures it; this page does so on networks of the
size of the paper's, on small ones of scikit-learn's digits for what needs a whole
matrix, on recurrent ones that hear who speaks (`tests/networks/speech.py`, cepstra of
Japanese vowels), and on two that come with refspec: `magika`, of which the export holds
the last layer, and `digits_decay`. Thresholds were fixed in the code before the
networks were trained, but where P says otherwise; "holds in part" also says that places
disagree. It is written by `python -m refspec.claims demos/results/claims/*.json`;
`tests/networks/judged.py` trains the networks and judges them, `demos/claims.py` draws
the pictures. Figures and sections of the paper are cited from notes about it: its text
was not at hand.
"""

#: What is stated of a training, and how it is written.
_STATED = {"mean_loss": ".2g", "test_error": ".3f", "gradient_norm": ".2g"}
#: What tells one training from another.
_RECIPE = ("network", "normalisation", "epochs", "label_noise", "seed")


def page(records: list[dict[str, Any]], meaning: dict[str, str]) -> str:
    """Return the page: networks, a table of claims by networks, what was found.

    `meaning` says by claim, in words, what came of it.
    """
    every = [x for x in records if x["claims"] and "draws" not in x]
    # of one that was judged on its way too the tables have the end
    single = [x for x in every if x.get("epochs") == x.get("schedule")]
    several = compared(records)
    names = list(map(_named, single))
    lines = [_OPENING, "## The networks", ""]
    heads = ("network", "P", "N", "epochs", "loss", "test error", "gradient", "on")
    lines += _table(heads, [_network(x, n) for x, n in zip(single, names, strict=True)])
    lines += [
        "",
        f"And {len(members(records))} trainings in all, with those at several epochs, "
        "numbers of samples, and parts of the labels replaced, of which the largest "
        "eigenvalues and those of the levels alone were computed: T, M and B.",
    ]
    lines += ["", "## Claims by networks", ""]
    rows = [
        [
            f"[{id}](#{id})",
            claim.title,
            *(_verdict(x["claims"], id) for x in single),
            "" if claim.compare is None else _verdict(several, id),
        ]
        for id, claim in CLAIMS.items()
    ]
    lines += _table(("", "claim", *names, "all together"), rows)
    lines += ["", *(f"- ({key}): {why}." for key, why in _WHY.items())]
    lines += _resampled([x for x in records if "draws" in x])
    lines += ["", "![A panel a claim](../demos/pictures/claims.png)", ""]
    lines += [
        "*A panel a claim; above the upper broken line it holds. The last six are of "
        "small networks.*"
    ]
    for id, claim in CLAIMS.items():
        lines += ["", f'<a id="{id}"></a>', "", f"## {id}. {claim.title}", ""]
        lines += [f"**Claimed.** {_capital(claim.sentence)}."]
        lines += ["", f"**Source.** {claim.source}.", ""]
        lines += [f"**Measured.** {_capital(claim.numbers)}.", ""]
        lines += [f"**Threshold.** {_capital(claim.threshold)}."]
        if id in meaning:
            lines += ["", f"**What came of it.** {meaning[id]}"]
        found = [(_named(x), x["claims"]) for x in every]
        for name, claims in [*found, ("all together", several)]:
            places = [y for c in claims if c["id"] == id for y in c["places"]]
            lines += ["", f"*{name}*", ""] if places else []
            lines += [f"- {y['place']}: {y['verdict']}; {y['reason']}" for y in places]
    return "\n".join(lines) + "\n"


#: Numbers that are shown with their intervals: a claim, its number, a short name.
_SHOWN = (
    ("G", "above the edge without class means, certainly", "outliers", ".0f"),
    ("G", "above the within edge, certainly", "above within", ".0f"),
    ("W", "share of the within level in the bulk's trace", "bulk within", ".2f"),
    ("D", "share of the trace", "diagonal", ".1g"),
    ("K", "relative error by cell", "means off", ".2f"),
    ("N", "NC1, tr(S_W S_B^+) / C", "NC1", ".2f"),
    ("A", "part of the gradient", "gradient in top C", ".2f"),
)


def _resampled(records: list[dict[str, Any]]) -> list[str]:
    """Say what other draws of the samples would give, of the networks in refspec."""
    if not records:
        return []
    draws, sure = (records[0][k] for k in ("draws", "confidence"))
    heads = ("network", *(f"{id}: {short}" for id, _, short, _ in _SHOWN), "G the same")
    rows = [
        [
            f"{x['network']} ({x['samples']})",
            *(_between(x["claims"], id, name, form) for id, name, _, form in _SHOWN),
            f"{100 * _places(x['claims'], 'G')[-1]['agreeing']:.0f} %",
        ]
        for x in records
    ]
    return [
        "",
        "## Counts and their uncertainty",
        "",
        "Two things make a count uncertain. A radius says how far rounding can have "
        "moved an eigenvalue, of these samples: what is counted here stands clear of "
        "it. And other samples would have given another count: in brackets are the "
        f"{100 * sure:.0f} % intervals over {draws} draws of the samples, within their "
        "classes and with replacement, of the same trained network (`refspec claims "
        f"--bootstrap`), of {len(records)} networks that come with refspec; of K the "
        "last layer that can be judged. The last column says in how many draws claim G "
        "has the same verdict.",
        "",
        *_table(heads, rows),
    ]


def _places(claims: list[dict[str, Any]], id: str) -> list[dict[str, Any]]:
    """Return the places of a claim that have numbers."""
    return [y for c in claims if c["id"] == id for y in c["places"] if y["numbers"]]


def _between(claims: list[dict[str, Any]], id: str, name: str, form: str) -> str:
    """Return a number of the last place with its interval, as far as they are known."""
    for place in _places(claims, id)[-1:]:
        numbers, among = place["numbers"], ""
        keys = list(numbers)
        for k, key in enumerate(keys):
            if key.startswith(name) and numbers[key] is not None:
                if form == ".0f":  # a count is of what follows it
                    most = next(n for n in keys[k:] if n.strip() == "of")
                    among = f" of {numbers[most]:{form}}"
                ends = place["intervals"].get(key)
                told = f" ({ends[0]:{form}} to {ends[1]:{form}})" if ends else ""
                return f"{numbers[key]:{form}}{among}{told}"
    return "-"


def members(records: list[dict[str, Any]]) -> list[Member]:
    """Return every training once, with the signs of its Fisher information."""
    once = {
        (x["samples"], *(x["trained"][k] for k in _RECIPE)): x
        for x in records
        if "signs" in x
    }
    return [
        Member(
            facts["network"],
            facts["normalisation"],
            x["samples"],
            float(facts["epochs"]),
            facts["label_noise"],
            facts["test_error"],
            x["signs"],
        )
        for x in once.values()
        for facts in (x["trained"],)
    ]


def compared(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what several networks show together, as JSON holds it."""
    return [x.plain() for x in compare(members(records))]


def _named(x: dict[str, Any]) -> str:
    """Name a network, its samples, and its epochs where it is not at its end."""
    on_its_way = x.get("epochs") != x.get("schedule")
    after = f" after {x['epochs']} epochs" if on_its_way else ""
    return f"{x['network']} ({x['samples']}){after}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _network(x: dict[str, Any], name: str) -> list[str]:
    """Return how one was trained, a cell each."""
    facts = x["trained"]
    return [
        name,
        f"{x['parameters']:,}",
        str(x["samples"]),
        str(x.get("epochs", "-")),
        *(
            "-" if facts[key] is None else f"{facts[key]:{form}}"
            for key, form in _STATED.items()
        ),
        f"{x['machine']}, {x['date']}",
    ]


def _verdict(claims: list[dict[str, Any]], id: str) -> str:
    """Return the verdict of a claim on a network, or by a letter why there is none."""
    found = [c["verdict"] for c in claims if c["id"] == id]
    if found:
        return _MARKS[found[0]]
    if CLAIMS[id].compare is not None:
        return "- (a)"
    places = {y["place"] for c in claims if c["id"] == "G" for y in c["places"]}
    unlayered = CLAIMS[id].layered and "the Fisher information" in places
    return "- (b)" if unlayered else "- (d)"


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(x)} |" for x in lines]


def read(paths: Iterable[Path]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Read results, lists of records, and what they mean, a text by claim."""
    records: list[dict[str, Any]] = []
    meaning: dict[str, str] = {}
    for path in sorted(paths):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            meaning |= found
        else:
            records += found
    return records, meaning


if __name__ == "__main__":
    sys.stdout.write(page(*read(map(Path, sys.argv[1:]))))
