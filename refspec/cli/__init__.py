"""The command line, `refspec COMMAND`; one module a command or two."""

from __future__ import annotations

import sys
from typing import Annotated

try:
    import rich  # noqa: F401
    import typer
except ImportError:  # the core has no terminal library
    sys.exit("the command line needs typer and rich: pip install 'refspec[cli]'")

import refspec
from refspec.cli.check import check
from refspec.cli.kfac import kfac
from refspec.cli.predict import predict
from refspec.cli.report import report
from refspec.cli.spectra import attribute, spectrum
from refspec.cli.synth import synth
from refspec.cli.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False)
for command in (attribute, spectrum, kfac, check, synth, predict, verify, report):
    app.command()(command)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print it.")] = False,
) -> None:
    """Say what the spectrum of a trained classifier is made of."""
    if version:
        typer.echo(refspec.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line: exit 0 good, 1 the data fail a check, 2 wrong use."""
    app()
