"""mutmut's run of some modules in random order, up to a time; what it found, as JSON.

    python sample.py SEED SECONDS JOBS EACH RESULT WANTED
                                                 (in a copy with mutmut's settings)

At most EACH of a module, all if it is 0. mutmut tries quick mutants first: cut short,
it has tried those that die soon. In random order what it has tried by then is a random
sample. Those begun when the time is up are waited for, half a minute: a mutant that
lives takes longest. WANTED holds the diffs of those to be tried, by name; where it is
empty, all are.
"""

from __future__ import annotations

import collections
import importlib
import json
import os
import pathlib
import random
import resource
import signal
import sys
import time
from typing import Any

import mutmut.__main__ as mutmut
from mutmut.mutation import pragma_handling
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.workers.isolation import ForkRunner
from unasked import unasked

#: mutmut's exit codes: of a run of pytest, of a signal, or its own.
OUTCOMES = {None: "cut short", 0: "survived", 1: "killed", 3: "killed"}
OUTCOMES |= {5: "no tests", 33: "no tests"}
OUTCOMES |= dict.fromkeys((-24, 24, 36, 152, 255, -9), "no end")
#: Bytes that a process may take: a mutant that asks for more has failed.
MEMORY = 8 << 30
#: Seconds that those begun are waited for when the time is up.
GRACE = 30.0


class Sample:
    """The mutants in their order, how many of them were begun, and failing tests."""

    def __init__(self, seed: int, seconds: float, each: int, wanted: dict[str, str]):
        self.seed, self.each, self.wanted = seed, each, wanted
        self.of: collections.Counter[str] = collections.Counter()
        self.again: dict[str, str] = {}
        self.end = time.monotonic() + seconds
        self.order: list[tuple[Any, str]] = []
        self.begun = 0
        self.failing: set[str] = set()

    def run(self, jobs: int) -> None:
        """Let mutmut run, in this order and up to this time."""
        collected, submit = mutmut.collect_source_file_mutation_data, ForkRunner.submit
        place: dict[str, int] = {}

        def shuffled(**which: Any) -> Any:
            mutants, by_path = collected(**which)
            mutants.sort(key=lambda mutant: mutant[1])
            if self.wanted:
                self.again = same(
                    self.wanted, [(x, data.path) for data, x, _ in mutants]
                )
                mutants = [x for x in mutants if x[1] in self.again]
            random.Random(self.seed).shuffle(mutants)
            mutants = self.first(mutants)
            self.order = [(data, name) for data, name, _ in mutants]
            names = enumerate(name for _, name in self.order)
            place.update({x.replace("__init__.", ""): k for k, x in names})
            return mutants, by_path

        def in_time(runner: Any, name: str, *how: Any) -> None:
            if time.monotonic() < self.end:
                self.begun = place[name] + 1
                submit(runner, name, *how)

        mutmut.collect_source_file_mutation_data = shuffled
        mutmut.estimated_worst_case_time = lambda _: 0.0  # sorting keeps the order
        ForkRunner.submit = in_time
        ForkRunner.collect_stats = lambda runner, _: self.timed(runner.test_runner)
        ForkRunner.run_clean_tests = lambda *_, **__: 0  # they are run to be timed
        pragma_handling.get_lines_ignored_by_pattern = unasked
        # mutmut waits for its children; when the time is up, this ends them.
        signal.signal(signal.SIGALRM, stopped)
        signal.setitimer(signal.ITIMER_REAL, self.end + GRACE - time.monotonic())
        mutmut.cli(["run", "--max-children", str(jobs)], standalone_mode=False)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def first(self, mutants: list[Any]) -> list[Any]:
        """Count the mutants of every module and return as many of each as are asked."""
        some = []
        for mutant in mutants:
            self.of[module_of(mutant[1])] += 1
            if not self.each or self.of[module_of(mutant[1])] <= self.each:
                some.append(mutant)
        return some

    def timed(self, runner: PytestRunner) -> int:
        """Run all tests once, without a mutant; those that fail here are left out.

        A few examples of a property are enough to know what it reaches.
        """
        execute, sample = runner.execute_pytest, self

        class Failing:
            def pytest_runtest_logreport(self, report: Any) -> None:
                if report.failed:
                    sample.failing.add(report.nodeid)

        def through(params: list[str], plugins: list[Any]) -> int:
            params = [x for x in params if x != "-x"]
            return execute(params, plugins=[*plugins, Failing()])

        runner.execute_pytest = through
        profile = os.environ.get("HYPOTHESIS_PROFILE", "mutants")
        os.environ["HYPOTHESIS_PROFILE"] = "reach"
        code = runner.run_stats(tests=[])
        os.environ["HYPOTHESIS_PROFILE"] = profile
        hypothesis = importlib.import_module("hypothesis")  # not before the mutants are
        hypothesis.settings.load_profile(profile)
        runner.execute_pytest = execute
        for tests in state().tests_by_mangled_function_name.values():
            tests -= self.failing
        return 0 if self.failing else code

    def found(self, module: str) -> dict[str, Any]:
        """Return what became of those of a module begun, and each that lived."""
        begun = [x for x in self.order[: self.begun] if module_of(x[1]) == module]
        codes = {name: data.exit_code_by_key[name] for data, name in begun}
        outcomes = {x: OUTCOMES.get(code, str(code)) for x, code in codes.items()}
        alive = {
            name: f"{outcomes[name]}\n{get_diff_for_mutant(name, path=data.path)}"
            for data, name in begun
            if outcomes[name] != "killed"
        }
        dead = [name for name, how in outcomes.items() if how == "killed"]
        said = list(outcomes.values())
        times = sorted(data.durations_by_key.get(name, 0.0) for data, name in begun)
        return {
            "mutants": self.of[module],
            "tried": len(said),
            **{how: said.count(how) for how in sorted(set(said))},
            "seconds each": times[len(times) // 2] if times else 0.0,
            "failing": sorted(self.failing),
            "alive": alive,
        } | (self.wanted and {"again": self._again(module), "dead": sorted(dead)})

    def _again(self, module: str) -> dict[str, str]:
        """Return the old names of a module's mutants that are tried again."""
        return {x: y for x, y in self.again.items() if module_of(x) == module}


def module_of(name: str) -> str:
    """Return the module or package below refspec that a mutant is of."""
    return name.split(".")[1]


def same(wanted: dict[str, str], mutants: list[tuple[str, Any]]) -> dict[str, str]:
    """Return the old names of mutants that change the same lines of a function.

    Most have their name still. Where a function has the line twice, the lines about it
    decide, or the order.
    """
    diffs: dict[str, str] = {}
    places = dict(mutants)

    def diff(name: str) -> str:
        if name not in diffs:  # which takes a parser some time
            diffs[name] = get_diff_for_mutant(name, path=places[name])
        return diffs[name]

    told = {name: x.partition("\n")[2] for name, x in wanted.items()}
    found = {x: x for x in wanted if x in places and diff(x) == told[x]}
    for old in wanted.keys() - found.keys():
        function = old.rpartition("_")[0]
        others = [x for x in places if x.rpartition("_")[0] == function]
        fit = [x for x in others if changes(diff(x)) == changes(told[old])]
        fit = [x for x in fit if x not in found]
        if fit:
            found[next((x for x in fit if diff(x) == told[old]), fit[0])] = old
    return found


def changes(diff: str) -> list[str]:
    """Return the lines that a diff takes out and puts in."""
    return [x for x in diff.splitlines()[2:] if x[0] in "+-"]


def stopped(*_: Any) -> None:
    """End mutmut's run as an interrupt does."""
    raise KeyboardInterrupt


def main() -> None:
    """Run what the command line asks for."""
    seed, seconds, jobs, each, result, asked = sys.argv[1:]
    wanted = json.loads(pathlib.Path(asked).read_text(encoding="utf-8"))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sample = Sample(int(seed), float(seconds), int(each), wanted)
    sample.run(int(jobs))
    found = {module: sample.found(module) for module in sorted(sample.of)}
    pathlib.Path(result).write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)  # not through what tests have left to be done at exit


if __name__ == "__main__":
    main()
