"""The time of every command of the README, in the order of the page.

    python tests/benchmarks/readme.py > tests/benchmarks/readme.md

It runs what stands there, one after another in one folder, as a reader would; files
that are a reader's own are made of embedded networks. Commands that need a framework or
a cluster are left out by name, and said to be.
"""

import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime

import numpy as np

import refspec

README = pathlib.Path(__file__).parents[2] / "README.md"
NETWORK = """import refspec


def network():
    return refspec.fisher(refspec.datasets.wine_sklearn())
"""
PAGE = """# The time of each command of the README

Written by `python tests/benchmarks/readme.py` on {date}: refspec {version}, Python
{python}, NumPy {numpy}, {cores} cores ({machine}), {threads} thread(s) of BLAS. Wall
time from the prompt to the prompt, starting Python included (`refspec --version`:
{empty:.1f} s). `mine.npz` is the embedded MLP on digits, `mynet.py` a moment of the
embedded network on wine. The machine was {load}.

| command | seconds | exit |
|---|---|---|
"""


def commands(text):
    """Yield the refspec commands of a page: lines of its indented blocks."""
    for line in text.splitlines():
        found = re.match(r"    (refspec [a-z].*?)(?:\s{2,}#.*)?$", line)
        if found:
            yield found[1]


def timed(words, folder):
    """Return the seconds that a command takes, and its exit status."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, check=False
    )
    return time.perf_counter() - start, done.returncode


def prepared(folder):
    """Write what a reader has: an export, the same in Zarr, a network in Python."""
    digits = refspec.datasets.digits_mlp()
    refspec.save(digits, folder / "mine.npz")
    refspec.save(digits, folder / "mine.zarr")
    (folder / "mynet.py").write_text(NETWORK)


def main():
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepared(folder)
        empty, _ = timed(["refspec", "--version"], folder)
        print(
            PAGE.format(
                date=f"{datetime.now(UTC):%Y-%m-%d}",
                version=refspec.__version__,
                python=platform.python_version(),
                numpy=np.__version__,
                cores=os.cpu_count(),
                machine=platform.machine(),
                threads=os.environ.get("OMP_NUM_THREADS", "all"),
                empty=empty,
                load=f"under a load of {load:.1f}" if load >= 1 else "otherwise idle",
            ),
            end="",
        )
        for command in dict.fromkeys(commands(README.read_text())):
            seconds, code = timed(shlex.split(command), folder)
            print(f"| `{command}` | {seconds:.1f} | {code} |", flush=True)


if __name__ == "__main__":
    main()
