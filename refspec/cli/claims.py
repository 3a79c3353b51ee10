"""`refspec claims`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from refspec import claims as judged
from refspec import coverage, memory
from refspec.claims import Finding
from refspec.cli.inputs import Memory, expect_file, load_snapshot
from refspec.cli.outputs import Json, expect_outputs, write_json
from refspec.cli.terminal import say, working
from refspec.plans import plan

Files = Annotated[
    list[Path] | None,
    typer.Argument(help="Exports; the embedded digits network if none."),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Claims by letter: F or F,W; may be repeated."),
]
Dense = Annotated[
    int, typer.Option(min=0, help="The most parameters of a matrix that is formed.")
]


def claims(
    files: Files = None,
    only: Only = None,
    dense: Dense = 1000,
    json_file: Json = None,
    limit: Memory = None,
) -> None:
    """Judge with numbers what is claimed about networks; exit 0 whatever they say."""
    expect_outputs(files or [], json=json_file)
    chosen = _chosen(only)
    for given in files or []:
        expect_file(given)
    paths: list[Path | None] = [*files] if files else [None]
    records = []
    for path in paths:
        name = "the embedded digits network" if path is None else str(path)
        with memory.within(limit):
            snapshot = load_snapshot(path)
            planned = None if only else plan(snapshot, what="claims").expect_room()
            say(name)
            say(str(coverage.of_snapshot(snapshot)))
            with working("judging", planned) as tell:
                found: list[Finding] = []
                for id in chosen:
                    tell(f"claim {id}: {judged.CLAIMS[id].title}")
                    found += judged.judge(snapshot, [id], dense=dense)
        for finding in found:
            _print(finding)
        covered = coverage.of_snapshot(snapshot)
        records.append(
            {
                "source": name,
                "coverage": covered.document(),
                "claims": [x.plain() for x in found],
            }
        )
    if json_file is not None:
        write_json(json_file, "refspec.claims/1", {"networks": records})


def _chosen(only: list[str] | None) -> list[str]:
    """Return the claims that were asked for."""
    if not only:
        return list(judged.CLAIMS)
    chosen = [x.strip() for x in ",".join(only).split(",")]
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
