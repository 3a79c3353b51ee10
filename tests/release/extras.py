"""What every extra of the wheel brings, on every Python: resolved, installed, used.

    cd tests; python -m release.extras ../dist > release/extras.md
    cd tests; python -m release.extras ../dist python3.11 python3.12   # installs there

A resolution asks the package index which versions go together, on Linux, and downloads
none of them; an installation goes into an empty environment and is then used. Both are
uv's, which take seconds; `make release` installs by pip.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path

from release.try_release import USES, run

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
HEAVY = {"torch", "cupy", "cupy12", "frameworks", "bench", "peers", "peers-kfac-jax"}
UV = Path(sys.executable).with_name("uv")
PAGE = """# What every extra brings

Written by `make extras` on {date}, of `{wheel}`, on Linux.
Packages that an extra resolves to, refspec and its own among them, on every Python; an
extra in bold was also installed into an empty environment there, and imported. *CUDA*
says that libraries of NVIDIA are among them: PyTorch's wheel of the package index asks
for them, that of its own index for CPUs does not (README).

| extra | {pythons} |
|---|{rule}
"""


def extras(wheel):
    """Return the names of the extras that a wheel states."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (x for x in archive.namelist() if x.endswith("dist-info/METADATA"))
        stated = Parser().parsestr(archive.read(name).decode("utf-8"))
    return stated.get_all("Provides-Extra")


def resolved(wheel, extra, python):
    """Return the packages that an extra resolves to, or the reason why it does not."""
    wanted = f"refspec{extra and f'[{extra}]'} @ {wheel.as_uri()}"
    words = ["pip", "compile", "-", "--quiet", "--no-header", "--no-annotate"]
    words += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
    done = subprocess.run(
        [UV, *words],
        input=wanted,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return [], " ".join(done.stderr.split())
    return re.findall(r"(?m)^([\w.-]+)(?: @|==)", done.stdout), ""


def installed(wheel, extra, python):
    """Install an extra into an empty environment and use it."""
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "bin" / "python"
        run(UV, "venv", "--quiet", "--clear", "--python", python, folder)
        what = f"{wheel}[{extra}]" if extra else str(wheel)
        run(UV, "pip", "install", "--quiet", "--python", inside, what)
        run(inside, "-c", USES[extra])


def cell(wheel, extra, python, pythons):
    """Return what a table says of an extra on a Python, and why it does not resolve."""
    packages, why = resolved(wheel, extra, python)
    if why:
        return "no", f"- `{extra}` on {python}: {why}"
    text = f"{len(packages)}"
    if any(x.startswith("nvidia-") for x in packages):
        text += ", CUDA"
    if extra not in HEAVY and python in pythons:
        installed(wheel, extra, pythons[python])
        text = f"**{text}**"
    return text, ""


def version(program):
    """Return the version of an interpreter, as 3.12."""
    say = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.check_output([program, "-c", say], text=True).strip()


def main(dist, *programs):
    """Print the page."""
    (wheel,) = dist.glob("*.whl")
    pythons = {version(x): x for x in programs}
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "wheel": wheel.name}
    columns = " | ".join(PYTHONS)
    print(PAGE.format(pythons=columns, rule="---|" * len(PYTHONS), **about), end="")
    reasons = []
    for extra in ("", *extras(wheel)):
        found = [cell(wheel, extra, x, pythons) for x in PYTHONS]
        print(f"| {extra or 'none'} | {' | '.join(x for x, _ in found)} |", flush=True)
        reasons += [why for _, why in found if why]
    print("\n".join(["", *reasons]) if reasons else "", end="\n" * bool(reasons))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
