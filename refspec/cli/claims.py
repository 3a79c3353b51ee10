"""`refspec claims`."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from refspec import claims as judged
from refspec import memory
from refspec.claims import CLAIMS, Finding
from refspec.claims.bootstrap import resampled
from refspec.claims.registry import Subject
from refspec.classes import Snapshot
from refspec.cli import completion
from refspec.cli.inputs import (
    Backend,
    Dense,
    Files,
    Memory,
    On,
    Top,
    expect_file,
    load,
    split,
)
from refspec.cli.outputs import Json, expect_outputs, write_json
from refspec.cli.terminal import say, working
from refspec.plans import plan

#: Of every interval.
_SURE = 0.95
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="Claims by letter: F or F,W; may be repeated.",
        autocompletion=completion.of_claims,
    ),
]
Whole = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="The most eigenvalues that are all computed; of others the C^2 largest.",
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        "--bootstrap",
        min=2,
        help="Draw the samples again so often: 95 % intervals of every number, of "
        "what other samples would give. Takes as many times as long.",
    ),
]


def claims(
    files: Files = None,
    only: Only = None,
    dense: Dense = 1000,
    whole: Whole = None,
    top: Top = None,
    json_file: Json = None,
    on: On = Backend.numpy,
    limit: Memory = None,
    draws: Draws = None,
) -> None:
    """Judge with numbers what is claimed about networks; exit 0 whatever they say.

    Several exports are judged together on what changes over epochs, samples, label
    noise or with batch norm, as their provenance tells it.
    """
    expect_outputs(files or [], json=json_file)
    chosen = _chosen(only)
    for given in files or []:
        expect_file(given)
    paths: list[Path | None] = [*files] if files else [None]
    together = [x for x in chosen if CLAIMS[x].compare is not None]
    records, members = [], []
    for path in paths:
        with memory.within(limit):
            source, planned = load(path, on), None
            network = source.network
            if not only and whole is None:  # of a part of them there is no plan
                counted = (
                    None if top is None else max(top, (len(network.offsets) - 1) ** 2)
                )
                planned = plan(network, what="claims", top=counted).expect_room()
                planned = planned.repeated(1 + (draws or 0))
            say(source.name)
            say(str(source.coverage))
            with working("judging", planned) as tell:
                # one for all claims: what several ask for is computed once
                subject = Subject(network, dense, True, whole, top)
                found: list[Finding] = []
                for id in chosen:
                    tell(f"claim {id}: {judged.CLAIMS[id].title}")
                    found += judged.judge(subject, [id])
                if draws is not None:
                    found = list(resampled(subject, found, draws, _SURE, tell=tell))
                if together and isinstance(network, Snapshot):
                    members.append(judged.member(network))
        if draws is not None:
            part = f"{100 * _SURE:.0f} % intervals"
            say(f"{part} over {draws} draws of the samples within their classes")
        for finding in found:
            _print(finding)
        records.append(
            {
                "source": source.name,
                "coverage": source.coverage.document(),
                "claims": [x.plain() for x in found],
            }
            | ({} if draws is None else {"draws": draws, "confidence": _SURE})
        )
    document: dict[str, object] = {"networks": records}
    if len(members) > 1:
        say(f"these {len(members)} together")
        compared = list(judged.compare(members, together))
        for finding in compared:
            _print(finding)
        document["together"] = [x.plain() for x in compared]
    if json_file is not None:
        write_json(json_file, "refspec.claims/1", document)


def _chosen(only: list[str] | None) -> list[str]:
    """Return the claims that were asked for."""
    if not only:
        return list(judged.CLAIMS)
    chosen = split(only)
    unknown = [x for x in chosen if x not in judged.CLAIMS]
    if unknown:
        raise typer.BadParameter(
            f"--only: claims must be among {', '.join(judged.CLAIMS)}, got "
            f"{', '.join(unknown)}"
        )
    return chosen


def _print(finding: Finding) -> None:
    """Print a claim, its verdict, and what was found in each place."""
    claim = finding.claim
    say(f"{claim.id}  {claim.title}: {finding.verdict}")
    for line in textwrap.wrap(claim.sentence, 76):
        say(f"   {line}")
    for x in finding.evidence:
        say(f"   - {x.place}: {x.verdict}; {x.reason}")
        for name, (low, high) in x.intervals.items():
            if low < high:  # the number of classes is always what it is
                say(f"       {name}: {x.numbers[name]:.3g} ({low:.3g} to {high:.3g})")
        if math.isfinite(x.agreeing):
            say(f"       the same verdict in {100 * x.agreeing:.0f} % of the draws")
