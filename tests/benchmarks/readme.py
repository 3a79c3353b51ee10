"""The time of every command of the README, in the order of the page.

    python tests/benchmarks/readme.py > tests/benchmarks/readme.md
    python tests/benchmarks/readme.py synth predict   # the rows of these

It runs what stands there, one after another in one folder, as a reader would; files
that are a reader's own are embedded networks.
"""

import os
import pathlib
import platform
import re
import resource
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import resources

import numpy as np

import refspec

README = pathlib.Path(__file__).parents[2] / "README.md"
NETWORK = """import refspec


def network():
    return refspec.fisher(refspec.datasets.wine_sklearn())
"""
PAGE = """# The time of each command of the README

Written by `python tests/benchmarks/readme.py` on {date}: refspec {version}, Python
{python}, NumPy {numpy}, {cores} cores ({machine}), one thread of BLAS, the machine
under a load of {load:.0f}. Processor seconds, which are about the time on one idle
core: starting Python is among them, and is all of `refspec --version`, {empty:.1f} s.
`mine.npz` is the embedded MLP on digits, `mynet.py` a moment of the embedded network on
wine.

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
    """Return the processor seconds of a command, and its exit status."""
    before = spent()
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    return spent() - before, done.returncode


def spent():
    """Return the processor seconds of all children so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def prepared(folder):
    """Write what a reader has: an export, the same in Zarr, a network in Python."""
    data = resources.files("refspec.data").joinpath("digits_mlp.npz").read_bytes()
    (folder / "mine.npz").write_bytes(data)
    refspec.save(refspec.load(folder / "mine.npz"), folder / "mine.zarr")
    (folder / "mynet.py").write_text(NETWORK)


def main(wanted):
    """Print the page, or the rows of some commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepared(folder)
        if not wanted:
            print(heading(timed(["refspec", "--version"], folder)[0]), end="")
        for command in dict.fromkeys(commands(README.read_text())):
            words = shlex.split(command)
            if not wanted or words[1] in wanted:
                seconds, code = timed(words, folder)
                print(f"| `{command}` | {seconds:.1f} | {code} |", flush=True)


def heading(empty):
    """Return what stands above the rows: where, when, and what starting takes."""
    return PAGE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        version=refspec.__version__,
        python=platform.python_version(),
        numpy=np.__version__,
        cores=os.cpu_count(),
        machine=platform.machine(),
        load=os.getloadavg()[0],
        empty=empty,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
