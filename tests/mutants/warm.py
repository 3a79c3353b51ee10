"""A process that has imported what tests import, and forks for every run of them.

Most of a short run of tests is its imports. This one reads a line of JSON (arguments of
pytest, seconds, a file for what is said) and answers with one: how the run ended, as
`subprocess` counts it, or `null` if it took too long. The package itself is imported
by the fork alone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import signal
import sys
from typing import Any

#: What tests of the package use, if it is installed.
MODULES = """
numpy scipy.interpolate scipy.linalg scipy.optimize scipy.sparse.linalg scipy.special
scipy.stats array_api_compat.numpy array_api_strict mpmath pytest hypothesis
hypothesis.extra.numpy _hypothesis_pytestplugin matplotlib.pyplot
"""


def warmed() -> None:
    """Import all that is not the package; Hypothesis would by its plugins."""
    os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"
    for name in MODULES.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    del os.environ["HYPOTHESIS_NO_PLUGINS"]


def forked(arguments: list[str], seconds: float, said: str) -> int | None:
    """Run pytest in a fork, which leads a group of its own; None if it takes longer."""
    child = os.fork()
    if child == 0:
        os.setsid()
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 70
        try:
            code = ran(arguments)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def late(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    except TimeoutError:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def ran(arguments: list[str]) -> int:
    """Run pytest on the package below the working directory."""
    sys.path[0] = os.getcwd()
    if pathlib.Path("refspec/hypothesis_plugin.py").exists():
        importlib.import_module("hypothesis.entry_points").run()
    return int(importlib.import_module("pytest").main(arguments))


def main() -> None:
    """Serve until there is no line any more."""
    warmed()
    for line in sys.stdin:
        print(json.dumps(forked(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
