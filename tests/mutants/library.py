"""Mutants of a library beside ours: mutmut's, over the kernels, a random sample.

    cd tests; python -m mutants.library              a quarter of an hour of all modules
    cd tests; python -m mutants.library structure --seconds 7200
                                             one of them, all its mutants if time allows
    cd tests; python -m mutants.library --each 60 --seed 5
                                             that many of each module, if time allows
    cd tests; python -m mutants.library kronecker --again [--tests kronecker/test_x.py]
                                             those of library.json that were not killed

mutmut makes every mutant of a module and runs the tests that reach it, in a copy of the
tree, in random order (`sample.py`). Modules of the same tests run together, those of
others beside them: jobs are dealt by length.
What is left out (`unasked.py`) was decided before: words, costs, and how much is done
at a time. What is found goes to library.json and the table library.md, of the modules
that were run last; survivors are explained in survivors.md.

A mutant is tried again as the lines that it changes in its function, whatever number it
has now. Killed by tests written since, it counts as killed, and as killed `later`; one
whose lines are no longer there is `dropped`, and counts no more.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from typing import Any

from mutants.run import COPIED, ENVIRONMENT, HERE, ROOT, copied

#: Tests that reach most of the core.
CORE = """
core/test_coordinates.py core/test_curvature.py core/test_differentiated.py
core/test_empty_classes.py core/test_factors.py core/test_implicit.py
core/test_in_parts.py core/test_leading.py core/test_output.py core/test_plans.py
core/test_radii.py core/test_results.py
core/test_right_or_refused.py core/test_rows.py
core/test_spectra.py core/test_structure.py attribution bad_calls/test_bad_core.py
bad_calls/test_messages_core.py
theorems/test_attribution.py theorems/test_curvature.py theorems/test_levels.py
theorems/test_spectra.py
"""
#: The files of a module, and tests that reach it, below `refspec`, `tests`.
MODULES = {
    "structure": ("structure.py", CORE),
    "curvature": ("curvature.py", CORE),
    "factors": ("factors/*", CORE),
    "rows": ("rows.py", CORE),
    "coordinates": ("coordinates/*", CORE),
    "spectra": ("spectra.py", CORE),
    "attribution": ("attribution/*", CORE),
    "kronecker": (
        "kronecker/*",
        "kronecker theorems/test_kronecker.py theorems/test_kronecker_nearest.py "
        "theorems/test_kronecker_spectra.py theorems/test_preconditioners.py "
        "core/test_empty_classes.py core/test_results.py "
        "bad_calls/test_bad_kronecker.py bad_calls/test_messages_kronecker.py",
    ),
    "hessian": (
        "hessian/*",
        "hessian theorems/test_hessian.py core/test_implicit.py core/test_in_parts.py "
        "attribution/test_hessian.py testing/test_inputs.py "
        "bad_calls/test_bad_models.py bad_calls/test_messages_hessian.py",
    ),
}
#: No doctests, no plugin but Hypothesis's and ours; a mutant's time is many times that
#: of its tests without it, and with few examples.
SETTINGS = """
[mutmut]
source_paths = refspec
only_mutate =
    {files}
pytest_add_cli_args =
    --assert=plain
    -p
    no:cacheprovider
    -p
    _hypothesis_pytestplugin
    -p
    refspec.pytest_plugin
    -o
    addopts=--import-mode=importlib --strict-markers
    -m
    not slow
pytest_add_cli_args_test_selection =
    {tests}
also_copy =
    {copied}
timeout_multiplier = 40
timeout_constant = 4
track_dependencies = false
use_git_change_detection = false
"""
#: What the table counts.
COUNTED = ("mutants", "tried", "killed", "later", "dropped", "no end", "survived")
COUNTED += ("no tests", "cut short")
#: Seconds beyond its time after which a module's run is stopped and lost.
PATIENCE = 90.0


def sampled(
    modules: list[str],
    *,
    seed: int,
    end: float,
    jobs: int,
    each: int,
    tests: str,
    wanted: dict[str, str],
) -> dict[str, Any]:
    """Run mutants in random order until `end`: those wanted, all if none is.

    Of modules that have the same tests, as many `each`, and all if it is 0.
    """
    covering = MODULES[modules[0]][1].split()
    files = {file_of(diff) for diff in wanted.values()} or {
        f"refspec/{MODULES[module][0]}" for module in modules
    }
    with tempfile.TemporaryDirectory() as scratch:
        place = copied(ROOT, pathlib.Path(scratch))
        with (place / "setup.cfg").open("a", encoding="utf-8") as file:
            lists = {
                "files": sorted(files),
                "tests": [f"tests/{x}" for x in tests.split() or covering],
                "copied": [x for x in COPIED if x not in ("refspec", "tests")],
            }
            file.write(
                SETTINGS.format(**{k: "\n    ".join(x) for k, x in lists.items()})
            )
        left, result = end - time.monotonic(), place / "found.json"
        asked = place / "wanted.json"
        asked.write_text(json.dumps(wanted), encoding="utf-8")
        words = [*map(str, (seed, left, jobs, each, result, asked))]
        with (place / "said").open("w", encoding="utf-8") as said:
            running = subprocess.Popen(
                [sys.executable, str(HERE / "sample.py"), *words],
                cwd=place,
                env=os.environ | ENVIRONMENT | {"TMPDIR": scratch},
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            try:
                running.wait(left + PATIENCE)
            except subprocess.TimeoutExpired:
                running.kill()
        if result.exists():
            told = dict(json.loads(result.read_text(encoding="utf-8")))
            return {module: {"on": here()} | told[module] for module in modules}
        lines = (place / "said").read_text(encoding="utf-8").splitlines()
        told = [x for x in lines if not x.endswith((" mutants", " stats", " tests"))]
        return {x: {"failed": "\n".join(told)[-3000:]} for x in modules}


def here() -> str:
    """Say when and where this runs."""
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {os.cpu_count()} cores, Python {platform.python_version()}"


def file_of(diff: str) -> str:
    """Return the file that a diff changes."""
    return next(x[4:] for x in diff.splitlines() if x.startswith("--- "))


def merged(before: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a module's mutants after some were tried again.

    Those not reached, by the tests or in the time, stay as they were.
    """
    if "failed" in again:
        return before | {"failed": again["failed"]}
    alive = {}
    for new, old in again["again"].items():
        told, known = again["alive"].get(new, ""), before["alive"][old]
        # these tests may pass in the end where others found none
        better = told.startswith(("survived", "no end")) and known[:6] != "no end"
        if new not in again["dead"]:
            alive[new] = told if better else known
    lost = len(before["alive"]) - len(again["again"])
    tried = before["tried"] - lost
    said = [x.split("\n", 1)[0] for x in alive.values()]
    return {
        "on": before.get("on", ""),
        "mutants": before["mutants"],
        "tried": tried,
        "killed": tried - len(alive),
        "later": before.get("later", 0) + len(again["dead"]),
        "dropped": before.get("dropped", 0) + lost,
        **{how: said.count(how) for how in sorted(set(said))},
        "seconds each": before["seconds each"],
        "failing": again["failing"],
        "alive": alive,
    }


def short(name: str) -> str:
    """Return a mutant's name as survivors.md gives it: file.Class.function number."""
    where, _, number = name.removeprefix("refspec.").rpartition("__mutmut_")
    path, _, function = where.rpartition(".x")
    return f"{path}.{function[1:].replace('ǁ', '.')} {number}"


def dealt(chosen: list[str], jobs: int) -> list[tuple[list[str], int]]:
    """Deal jobs to groups of modules, those of the same tests, by their length."""
    groups: dict[str, list[str]] = {}
    for module in chosen:
        groups.setdefault(MODULES[module][1], []).append(module)
    length = {
        tests: sum(
            len(path.read_bytes())
            for module in modules
            for path in (ROOT / "refspec").glob(MODULES[module][0])
            if path.is_file()
        )
        for tests, modules in groups.items()
    }
    of = dict.fromkeys(groups, 1)
    for _ in range(jobs - len(groups)):
        of[max(groups, key=lambda x: length[x] / of[x])] += 1
    return [(modules, of[tests]) for tests, modules in groups.items()]


def table(results: dict[str, dict[str, Any]]) -> str:
    """Say what was tried and killed, module by module, and in all."""
    lines = [
        "# A library's mutants of the kernels, a random sample",
        "",
        f"| module | {' | '.join(COUNTED)} | rate |",
        "|---" * (len(COUNTED) + 2) + "|",
    ]
    whole = dict.fromkeys(COUNTED, 0)
    for module, x in results.items():
        if "failed" in x:
            lines.append(f"| {module} | did not run" + " |" * (len(COUNTED) + 1))
            continue
        whole = {key: n + x.get(key, 0) for key, n in whole.items()}
        lines.append(row(module, x))
    runs = sorted({x["on"] for x in results.values() if "on" in x})
    told = [
        "`later`: of those killed, by tests written after the run; `dropped`: their",
        "lines are no more. Run on " + "; ".join(runs) + ".",
    ]
    return "\n".join([*lines, row("all", whole), "", *told]) + "\n"


def row(name: str, x: dict[str, Any]) -> str:
    """Write a line of the table; the rate is of all that were tried to their end."""
    numbers = " | ".join(str(x.get(key, 0)) for key in COUNTED)
    tried = max(1, x["tried"] - x.get("cut short", 0))
    return f"| {name} | {numbers} | {100 * x.get('killed', 0) / tried:.0f} % |"


def main() -> None:
    """Run what the command line asks for, all modules at once."""
    parser = argparse.ArgumentParser(description="Run a sample of mutmut's mutants.")
    parser.add_argument("modules", nargs="*", help="all by default")
    parser.add_argument("--seconds", type=float, default=900, help="900 by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=0, help="mutants of each module")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="a folder")
    parser.add_argument("--again", action="store_true", help="only those not killed")
    parser.add_argument("--tests", default="", help="instead of those that cover them")
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    path = given.out / "library.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    chosen = given.modules or list(MODULES)
    wanted = {x: results[x]["alive"] if given.again else {} for x in chosen}
    if given.again:
        chosen = [x for x in chosen if wanted[x]]
    groups = dealt(chosen, given.jobs)
    with concurrent.futures.ThreadPoolExecutor(len(groups)) as pool:
        running = [
            pool.submit(
                sampled,
                modules,
                seed=given.seed,
                end=end,
                jobs=jobs,
                each=given.each,
                tests=given.tests,
                wanted={k: x for module in modules for k, x in wanted[module].items()},
            )
            for modules, jobs in groups
        ]
        for done in concurrent.futures.as_completed(running):
            for module, found in done.result().items():
                known = results.get(module, {})
                results[module] = merged(known, found) if given.again else found
                told = {k: x for k, x in results[module].items() if k != "alive"}
                print(module, told, flush=True)
            ordered = {x: results[x] for x in MODULES if x in results}
            path.write_text(json.dumps(ordered, indent=1), encoding="utf-8")
            (given.out / "library.md").write_text(table(ordered), encoding="utf-8")


if __name__ == "__main__":
    main()
