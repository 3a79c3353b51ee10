"""Mutants of a library beside ours: mutmut's, over the kernels, a random sample.

    cd tests; python -m mutants.library                      all modules
    cd tests; python -m mutants.library structure --share 100
                                             one of them, all its mutants

mutmut makes every mutant of a module and runs the tests that reach it, in a copy of the
tree. Messages and `__repr__` are left out: their words are not what kills here. What is
found goes to library.json and the table library.md, of the modules that were run last;
survivors are explained in survivors.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from typing import Any

from mutants.run import COPIED, ENVIRONMENT, HERE, ROOT, copied

#: The files of a module, and the fewest tests that cover it, below `refspec`, `tests`.
MODULES = {
    "structure": (
        "structure.py",
        "core/test_structure.py core/test_curvature.py attribution/test_means.py "
        "core/test_right_or_refused.py theorems/test_levels.py",
    ),
    "curvature": (
        "curvature.py",
        "core/test_curvature.py core/test_structure.py theorems/test_curvature.py "
        "core/test_right_or_refused.py",
    ),
    "factors": (
        "factors.py",
        "core/test_factors.py core/test_curvature.py core/test_coordinates.py "
        "core/test_right_or_refused.py",
    ),
    "rows": (
        "rows.py",
        "core/test_factors.py core/test_curvature.py core/test_differentiated.py "
        "core/test_right_or_refused.py",
    ),
    "coordinates": (
        "coordinates/*",
        "core/test_coordinates.py core/test_curvature.py theorems/test_spectra.py "
        "core/test_right_or_refused.py",
    ),
    "spectra": (
        "spectra.py",
        "core/test_spectra.py core/test_curvature.py attribution/test_shares.py",
    ),
    "attribution": (
        "attribution/*",
        "attribution core/test_leading.py theorems/test_attribution.py",
    ),
    "kronecker": ("kronecker/*", "kronecker theorems/test_kronecker.py"),
    "hessian": ("hessian/*", "hessian theorems/test_hessian.py"),
}
SETTINGS = """
[mutmut]
source_paths = refspec
only_mutate =
    {files}
do_not_mutate_patterns =
    (?ms)raise \\w+\\(.*?^ *\\)
    (?ms)def __repr__.*?^$
pytest_add_cli_args =
    -p
    no:cacheprovider
    -m
    not slow
pytest_add_cli_args_test_selection =
    {tests}
also_copy =
    {copied}
"""
#: mutmut's exit codes: of a run of pytest, or its own.
OUTCOMES = {0: "survived", 1: "killed", 3: "killed", 5: "no tests", 33: "no tests"}


def sampled(module: str, share: float, seed: int, jobs: int) -> dict[str, Any]:
    """Run a random sample of a module's mutants; return counts and survivors."""
    files, tests = (x.split() for x in MODULES[module])
    with tempfile.TemporaryDirectory() as scratch:
        place = copied(ROOT, pathlib.Path(scratch))
        with (place / "setup.cfg").open("a", encoding="utf-8") as file:
            lists = {
                "files": [f"refspec/{x}" for x in files],
                "tests": [f"tests/{x}" for x in tests],
                "copied": [x for x in COPIED if x not in ("refspec", "tests")],
            }
            file.write(
                SETTINGS.format(**{k: "\n    ".join(x) for k, x in lists.items()})
            )

        def mutmut(*words: str) -> str:
            return subprocess.run(
                [sys.executable, "-m", "mutmut", *words],
                cwd=place,
                env={**os.environ, **ENVIRONMENT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            ).stdout

        said = mutmut("run", "none of them, but made")
        every = sorted(found(place))
        if not every:
            sys.exit(said[-2000:])
        chosen = random.Random(seed).sample(
            every, max(1, round(len(every) * share / 100))
        )
        said = mutmut("run", "--max-children", str(jobs), *chosen)
        outcomes = {name: found(place)[name] for name in chosen}
        if not any(outcomes.values()):
            sys.exit(said[-2000:])
        alive = [x for x, how in outcomes.items() if how != "killed"]
        shown = {x: f"{outcomes[x]}\n{mutmut('show', x)}" for x in sorted(alive)}
    counts = {k: list(outcomes.values()).count(k) for k in set(outcomes.values())}
    return {"mutants": len(every), "tried": len(chosen), **counts, "alive": shown}


def found(place: pathlib.Path) -> dict[str, str]:
    """Return what mutmut wrote of every mutant."""
    codes: dict[str, int | None] = {}
    for path in (place / "mutants/refspec").rglob("*.meta"):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return {
        name: "" if code is None else OUTCOMES.get(code, f"ended by {code}")
        for name, code in codes.items()
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Say what was tried and killed, module by module."""
    lines = [
        "| module | mutants | tried | killed | alive | rate |",
        "|---|---|---|---|---|---|",
    ]
    for module, x in results.items():
        killed, tried = x.get("killed", 0), x["tried"]
        lines.append(
            f"| {module} | {x['mutants']} | {tried} | {killed} | {tried - killed} | "
            f"{100 * killed / tried:.0f} % |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what the command line asks for, one module after the other."""
    parser = argparse.ArgumentParser(description="Run a sample of mutmut's mutants.")
    parser.add_argument("modules", nargs="*", help="all by default")
    parser.add_argument(
        "--share", type=float, default=15, help="percent, 15 by default"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    path = HERE / "library.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for module in given.modules or MODULES:
        results[module] = sampled(module, given.share, given.seed, given.jobs)
        path.write_text(json.dumps(results, indent=1), encoding="utf-8")
        (HERE / "library.md").write_text(table(results), encoding="utf-8")
        print(
            module,
            {k: x for k, x in results[module].items() if k != "alive"},
            flush=True,
        )


if __name__ == "__main__":
    main()
