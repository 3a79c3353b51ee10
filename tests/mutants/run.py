"""Apply every mutant, a wrong version of one line, and see the package's tests fail.

    python tests/mutants/run.py                     all of them, in parallel
    python tests/mutants/run.py structure rounding  those of some packages
    python tests/mutants/run.py --about "c' = c"    those that mean something
    python tests/mutants/run.py --since v0.1.0 --seconds 150
                                                    those of changed packages first

A mutant is data, in the TOML file of its package (`tests`: what is to kill them):

    [[mutant]]
    file = "refspec/structure.py"
    before = "size = xp.sqrt("     # occurs exactly once in the file
    after = "size = ("
    means = "a direction is scaled by its squared length"
    tests = ["..."]                # instead of the package's, where those are slow

It is applied in a copy of the tree, never in the tree itself; its tests run in a fork
of a process that has imported what is not ours (`warm.py`). It is *killed* if a test
fails; a run that ends in an error on import, or in its time, kills nothing.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import dataclasses
import datetime
import itertools
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
#: What the tests of a package read beside the package.
COPIED = ("refspec", "tests", "theory", "demos", "README.md", "setup.cfg")
#: Seconds after which a mutant is taken to run for ever.
LIMIT = 300.0
#: A quick start: no plugin but our own and Hypothesis's, no rewriting of assertions.
FLAGS = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider"]
FLAGS += ["-p", "_hypothesis_pytestplugin", "-p", "refspec.pytest_plugin"]
FLAGS += ["-o", "addopts=--import-mode=importlib --strict-markers --doctest-modules"]
ENVIRONMENT = {
    "HYPOTHESIS_PROFILE": "mutants",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
#: What the exit status of pytest says of a mutant; anything else is an error.
OUTCOMES = {0: "survived", 1: "killed", None: "timed out"}
#: What is said of tests that fail without a mutant: with one they would say nothing.
ALONE = "fails without one"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One line made wrong, and the tests that are to notice."""

    package: str
    file: str
    before: str
    after: str
    means: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """Return the file's text with the mutant in it; ValueError if it has no place.

        A mutant that says what the line said already would survive for ever.
        """
        if (n := text.count(self.before)) != 1:
            raise ValueError(f"`before` must occur once in {self.file}, occurs {n} x")
        wrong = text.replace(self.before, self.after)
        if ast.dump(ast.parse(wrong)) == ast.dump(ast.parse(text)):
            raise ValueError("`after` must be another program, is the same")
        return wrong


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a mutant: killed, survived, or an error, and the last lines."""

    mutant: Mutant | None
    outcome: str
    seconds: float
    said: str = ""


def mutants(folder: pathlib.Path = HERE) -> list[Mutant]:
    """Read all mutants, one file a package."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        for each in data["mutant"]:
            tests = tuple(each.pop("tests", data["tests"]))
            found.append(Mutant(path.stem, tests=tests, **each))
    return found


def copied(root: pathlib.Path, place: pathlib.Path) -> pathlib.Path:
    """Copy the tree to where mutants are applied.

    Its modules are compiled with the hash of their source: one that changes twice in a
    second at the same length is not taken for the one before.
    """
    unwanted = shutil.ignore_patterns("__pycache__", "out")
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, place / name, ignore=unwanted)
        elif (root / name).exists():
            shutil.copy(root / name, place / name)
    hashed = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
    subprocess.run([sys.executable, *hashed, "refspec"], cwd=place, check=True)
    return place


class Place:
    """A copy of the tree, and a process in it that runs tests (`warm.py`)."""

    def __init__(self, root: pathlib.Path, folder: pathlib.Path):
        folder.mkdir()
        self.folder = copied(root, folder)
        self.running = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py")],
            cwd=folder,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tested(self, tests: tuple[str, ...], limit: float) -> Result:
        """Run some tests in the copy, up to the first that fails."""
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        said, start = self.folder / "said", time.monotonic()
        arguments = [*FLAGS, f"--basetemp={self.folder / 'scratch'}", *tests]
        self.running.stdin.write(json.dumps([arguments, limit, str(said)]) + "\n")
        self.running.stdin.flush()
        code, seconds = json.loads(self.running.stdout.readline()), time.monotonic()
        text = said.read_text(encoding="utf-8", errors="replace")
        outcome = OUTCOMES.get(code, f"error {code}")
        if "ERROR collecting" in text:  # with -x this too ends with 1
            outcome = "error on import"
        last = "\n".join(text.splitlines()[-25:])
        return Result(None, outcome, seconds - start, last)

    def close(self) -> None:
        """Let its process end."""
        self.running.communicate()


def tried(mutant: Mutant, place: Place, limit: float = LIMIT) -> Result:
    """Apply a mutant in a copy, run its tests, take it back."""
    if not mutant.file:
        alone = place.tested(mutant.tests, limit)
        outcome = ALONE if alone.outcome == "killed" else alone.outcome
        return dataclasses.replace(alone, outcome=outcome, mutant=mutant)
    path = place.folder / mutant.file
    if not path.exists():
        return Result(mutant, "does not apply", 0.0, "the file is no more")
    right = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.applied(right), encoding="utf-8")
        made = place.tested(mutant.tests, limit)
    except (ValueError, SyntaxError) as error:
        return Result(mutant, "does not apply", 0.0, str(error))
    finally:
        path.write_text(right, encoding="utf-8")
    return dataclasses.replace(made, mutant=mutant)


def changed(since: str, packages: set[str], root: pathlib.Path = ROOT) -> set[str]:
    """Return the packages that differ from a commit; none if it is not known here."""
    asked = ["git", "diff", "--name-only", since, "--", "refspec", "tests"]
    said = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    parts = {
        part.removesuffix(".py").removesuffix(".toml").removeprefix("test_")
        for line in said.stdout.splitlines()
        for part in pathlib.PurePath(line).parts
    }
    return packages & parts


def in_turns(chosen: list[Mutant]) -> list[Mutant]:
    """Order mutants so that every package has its first before any has its second."""
    packages = itertools.groupby(chosen, key=lambda m: m.package)
    rounds = itertools.zip_longest(*(list(of) for _, of in packages))
    return [m for turn in rounds for m in turn if m is not None]


def run(
    chosen: list[Mutant], *, jobs: int, seconds: float | None, root: pathlib.Path = ROOT
) -> list[Result]:
    """Try mutants, `jobs` at a time; in `seconds`, those that can be tried in them.

    First their tests must pass without any, or a failure would say nothing. Where time
    is short this is left to the run of all tests, which comes before.
    """
    end = time.monotonic() + (seconds or float("inf"))
    free: queue.SimpleQueue[Place] = queue.SimpleQueue()

    def work(mutant: Mutant) -> Result | None:
        place, limit = free.get(), min(LIMIT, end - time.monotonic())
        try:
            made = tried(mutant, place, limit) if limit > 0 else None
        finally:
            free.put(place)
        if made is None or (made.outcome == "timed out" and limit < LIMIT):
            return None
        told = f"{made.outcome:>9} {made.seconds:5.1f} s  {mutant.package}"
        print(f"{told}: {mutant.means}", flush=True)
        return made

    with tempfile.TemporaryDirectory() as scratch:
        places = [Place(root, pathlib.Path(scratch) / str(k)) for k in range(jobs)]
        for place in places:
            free.put(place)
        try:
            with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
                if seconds is None:
                    found = [x for x in pool.map(work, whole(chosen)) if x is not None]
                    if failed := [x for x in found if x.outcome != "survived"]:
                        return failed
                found = pool.map(work, chosen)
                return [x for x in found if x is not None]
        finally:
            for place in places:
                place.close()


def whole(chosen: list[Mutant]) -> list[Mutant]:
    """Return no mutant at all for each package, with all the tests of its mutants."""
    tests: dict[str, dict[str, None]] = {}
    for m in chosen:
        tests.setdefault(m.package, {}).update(dict.fromkeys(m.tests))
    return [Mutant(n, "", "", "", "no mutant", tuple(x)) for n, x in tests.items()]


def table(results: list[Result], seconds: float) -> str:
    """Say by package how many were killed, and in how many seconds at most."""
    today = datetime.datetime.now(datetime.UTC).date()
    killed = sum(x.outcome == "killed" for x in results)
    lines = [
        "# Mutants",
        "",
        f"`make mutants` on {today}: {killed} of {len(results)} killed, in "
        f"{seconds / 60:.0f} minutes.",
        "",
        "| package | mutants | killed | seconds each, median | most |",
        "|---|---|---|---|---|",
    ]
    by = sorted(results, key=lambda x: x.mutant.package)
    for package, found in itertools.groupby(by, key=lambda x: x.mutant.package):
        of = list(found)
        times = sorted(x.seconds for x in of)
        dead = sum(x.outcome == "killed" for x in of)
        middle, most = times[len(times) // 2], times[-1]
        lines.append(f"| {package} | {len(of)} | {dead} | {middle:.1f} | {most:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what the command line asks for; 1 if a mutant is not killed."""
    parser = argparse.ArgumentParser(description="See the tests fail for every mutant.")
    parser.add_argument("packages", nargs="*", help="all by default")
    parser.add_argument("--about", default="", help="words in what a mutant means")
    parser.add_argument("--since", help="a commit: packages changed from it come first")
    parser.add_argument("--seconds", type=float, help="stop then; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", action="store_true", help="write results.md")
    given = parser.parse_args()
    every, start = mutants(), time.monotonic()
    packages = {m.package for m in every}
    if unknown := set(given.packages) - packages:
        parser.error(f"no mutants of {', '.join(sorted(unknown))}")
    chosen = [m for m in every if given.about in m.means]
    if given.packages:
        chosen = [m for m in chosen if m.package in given.packages]
    if given.since is not None:
        first = changed(given.since, packages)
        chosen.sort(key=lambda m: m.package not in first)
        few = [m for m in chosen if m.package in first]
        chosen = in_turns(few) + in_turns(chosen[len(few) :])
    results = run(chosen, jobs=given.jobs, seconds=given.seconds)
    alive = [x for x in results if x.outcome != "killed"]
    for x in alive:
        m = x.mutant
        print(
            f"\n{x.outcome}: {m.file}, {m.means}\n- {m.before}\n+ {m.after}\n{x.said}"
        )
    if given.write and all(x.outcome != ALONE for x in results):
        text = table(results, time.monotonic() - start)
        (HERE / "results.md").write_text(text, encoding="utf-8")
    tried_all = "" if len(results) == len(chosen) else f" ({len(chosen)} in all)"
    print(f"{len(results) - len(alive)} of {len(results)} killed{tried_all}")
    return int(bool(alive))


if __name__ == "__main__":
    sys.exit(main())
