"""Try what is to be published: what the archives hold, and the wheel in an empty place.

    python tests/release/try_release.py dist          # the wheel alone, and with [cli]
    python tests/release/try_release.py dist torch jax    # then each of these extras

Each extra gets an environment of its own, and the module that it is for is imported.
"""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
USES = {
    "": "import refspec; refspec.attribute(refspec.datasets.digits_mlp(), top=3)",
    "plots": "import matplotlib, refspec.plots",
    "report": "import jinja2, refspec; refspec.report.expect_libraries()",
    "zarr": "import zarr, refspec",
    "dataframe": "import pandas, xarray, refspec",
    "distributed": "import distributed, refspec.shards",
    "testing": "import refspec.strategies",
    "torch": "import refspec.exporters.torch",
    "jax": "import refspec.exporters.jax",
    "sklearn": "import refspec.exporters.sklearn",
    "onnx": "import refspec.exporters.onnx",
    "cli": "import refspec.cli.app",
    "all": "import refspec.cli.app, zarr, refspec.plots",
    "test": "import pytest, flint, refspec.testing",
    "browser": "import selenium, axe_core_python",
    "docs": "import sphinx, myst_parser, numpydoc, sphinx_gallery, pydata_sphinx_theme",
    "release": "import build, twine, cffconvert",
    "lint": "import mypy, importlinter",
    "mutants": "from importlib.metadata import version; version('mutmut')",
}
DOCTEST = """
import doctest, refspec, refspec.structure as module
failed, tried = doctest.testmod(module)
assert tried and not failed
result = refspec.attribute(refspec.datasets.digits_mlp(), top=3)
assert result.kinds == ["outlier"] * 3
"""


def tracked(*folders):
    """Return the files of a clean checkout in some folders."""
    command = ["git", "-C", ROOT, "ls-files", *folders]
    return set(subprocess.check_output(command, text=True).split("\n")) - {""}


def expect_contents(wheel, sdist):
    """Compare the archives with what is under version control."""
    held = {x for x in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in x}
    ours = tracked("refspec")
    assert held == ours, held ^ ours
    licences = [x for x in zipfile.ZipFile(wheel).namelist() if x.endswith("LICENSE")]
    assert licences, "no licence in the wheel"
    with tarfile.open(sdist) as archive:
        names = {x.name.partition("/")[2] for x in archive if x.isfile()}
    missing = tracked() - names - {".gitignore"}
    assert not missing, missing


def run(python, *words):
    """Run a program away from the checkout; what it prints is shown if it fails."""
    done = subprocess.run(
        [python, *words], cwd=tempfile.gettempdir(), capture_output=True, text=True
    )
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-4000:])
    return done.stdout


def installed(folder, wheel, extra=""):
    """Return the Python of an empty environment with the wheel in it, and an extra."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    what = f"{wheel}[{extra}]" if extra else str(wheel)
    run(python, "-m", "pip", "install", "--quiet", what)
    return python


def main(dist, *extras):
    """Check the archives of a folder and try the wheel."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    expect_contents(wheel, sdist)
    print(f"{wheel.name}, {sdist.name}: all that is under version control, no more")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(installed(place / "bare", wheel), "-c", DOCTEST)
        print("the wheel alone: doctests and an attribution")
        program = installed(place / "cli", wheel, "cli").with_name("refspec")
        assert "attribute" in run(program, "--help")
        assert "outlier" in run(program, "attribute", "--top", "3")
        print("refspec[cli]: refspec --help, refspec attribute")
        for extra in extras:
            run(installed(place / extra, wheel, extra), "-c", USES[extra])
            print(f"refspec[{extra}]: {USES[extra]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
