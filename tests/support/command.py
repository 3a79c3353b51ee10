"""The command line, run in this process."""

from typer.testing import CliRunner

from refspec.cli.app import app


def run(*words, columns=None):
    """Run `refspec` with these words on a terminal of so many columns."""
    env = None if columns is None else {"COLUMNS": str(columns)}
    return CliRunner().invoke(app, [str(x) for x in words], env=env)
