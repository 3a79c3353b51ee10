"""The how-to pages and demos of demos/, run."""

import os
import subprocess
import sys
from pathlib import Path

DEMOS = Path(__file__).parents[2] / "demos"


def run(name, folder, *options, hidden=None):
    """Run a page with warnings as errors, in a folder that it leaves empty.

    `hidden` is a folder that comes first on the path: its modules hide others.
    """
    path = [str(hidden or ""), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "error", DEMOS / f"{name}.py", *options],
        cwd=folder,
        env={
            **os.environ,
            "MPLBACKEND": "agg",
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [x for x in folder.iterdir() if x.name != ".hypothesis"]
    return done.stdout
