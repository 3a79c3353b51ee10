"""The commands under one name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import refspec
from refspec.cli.check import check
from refspec.cli.claims import claims
from refspec.cli.density import density
from refspec.cli.kfac import kfac
from refspec.cli.outcomes import USE, outcome
from refspec.cli.plan import plan
from refspec.cli.predict import predict
from refspec.cli.report import report
from refspec.cli.selftest import selftest
from refspec.cli.spectra import attribute, spectrum
from refspec.cli.sweep import sweep
from refspec.cli.synth import synth
from refspec.cli.terminal import console
from refspec.cli.verify import verify


class _Commands(TyperGroup):
    """Ends the process by `outcome`, not by what click makes of exceptions."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        words, debug = list(sys.argv[1:] if args is None else args), [False]
        console.stderr = False
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")

        def work() -> None:
            with self.make_context("refspec", words, obj=debug) as context:
                self.invoke(context)

        self._main_shell_completion({}, "refspec")  # ends the process if a shell asks
        sys.exit(outcome(work, lambda: debug[0]))


#: The commands in the order of a tour, by what they are for.
_TOUR = {
    "See what a spectrum is made of": (attribute, spectrum, density, kfac, report),
    "Judge a network, and an export": (claims, verify, check),
    "Before a large one": (plan,),
    "Where the answer is known": (synth, predict, sweep, selftest),
}

app = typer.Typer(cls=_Commands)
for panel, commands in _TOUR.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)

_Debug = Annotated[
    bool,
    typer.Option("--debug", envvar="REFSPEC_DEBUG", help="Show errors' tracebacks."),
]


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print it.")] = False,
    debug: _Debug = False,
) -> None:
    """Say what the spectrum of a trained classifier is made of.

    A tour, which needs no file: refspec attribute; refspec kfac; refspec claims;
    refspec report. Then the same with yours, after refspec check FILE. A world whose
    answer is known: refspec synth --preset levels -o w.npz; refspec predict w.npz.

    Exit status: 0 good; 1 the data fail a check or are refused; 2 wrong use, or a place
    that cannot be read or written; 3 a fault of refspec; 130 interrupted.
    """
    context.obj[0] = debug
    if version:
        typer.echo(refspec.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USE)
