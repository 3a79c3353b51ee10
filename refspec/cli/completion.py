"""What a shell offers beyond commands and choices: layers of a file, ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from refspec import claims, datasets, export
from refspec.cli import python
from refspec.theorems import asked


def layers(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the layers of the export on the line, of the embedded one without."""
    given = context.params.get("file") or next(iter(context.args), None)
    if given is None:
        names = [x.name for x in datasets.digits_mlp().layers]
    elif python.named(Path(given)) is not None:
        return []  # nobody's function is run to complete a word
    else:
        try:
            names = list(export.sizes(Path(given))[2])
        except (OSError, ValueError):
            return []
    return [x for x in names if x.startswith(incomplete)]


def _several(known: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Make what offers words of a list with commas: the last one is completed."""

    def offer(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        words = [x for x in known() if x.startswith(last)]
        return [f"{before}{comma}{x}" for x in words]

    return offer


def _ids(question: str) -> Callable[[], Iterable[str]]:
    return lambda: [x.id for x in asked(question)]


of_data = _several(_ids("data"))
of_code = _several(_ids("code"))
of_claims = _several(lambda: claims.CLAIMS)
