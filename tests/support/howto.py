"""The how-to pages of demos/, run."""

import subprocess
import sys
from pathlib import Path

DEMOS = Path(__file__).parents[2] / "demos"


def run(name, folder):
    """Run a page with warnings as errors, in a folder that it leaves empty."""
    done = subprocess.run(
        [sys.executable, "-W", "error", DEMOS / f"{name}.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [x for x in folder.iterdir() if x.name != ".hypothesis"]
