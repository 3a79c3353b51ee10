"""The command line, `refspec COMMAND`; one module a command or two."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0 good, 1 the data fail, 2 wrong use, 3 our fault.

    Imports come here, so that a library that is missing and an interrupt while they are
    read end in a word.
    """
    try:
        from refspec.cli.app import app
    except ImportError as error:  # the core has no terminal library
        needs = "the command line needs typer and rich; pip install 'refspec[cli]'"
        sys.stderr.write(f"error: {needs} ({error})\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    app()
