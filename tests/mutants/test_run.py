"""The mutants have a place, and what applies them tells a kill from all else."""

import json
import pathlib
import subprocess

import pytest

from mutants import library, run, unasked

EVERY = run.mutants()
PACKAGES = {m.package for m in EVERY}
#: What computes, reads, writes or shows; names and start-up have nothing to get wrong.
COVERED = {
    *("attribution", "checks", "classes", "cli", "coordinates", "curvature", "export"),
    *("exporters", "factors", "files", "hessian", "kronecker", "models", "plots"),
    *("populations", "random_matrix", "report", "rounding", "rows", "spectra"),
    *("strategies", "structure", "synthetic", "testing", "theorems", "verify"),
}
RIGHT = "def add(a, b):\n    return a + b\n"
TEST = "from refspec import sums\n\n\ndef test_sum():\n    assert sums.add(1, 2) == 3\n"


def test_every_mutant_has_one_place():
    texts = {m.file: (run.ROOT / m.file).read_text(encoding="utf-8") for m in EVERY}
    lost = [(m.package, m.means) for m in EVERY if texts[m.file].count(m.before) != 1]
    assert not lost
    assert not [m.means for m in EVERY if m.before == m.after]
    assert len({(m.file, m.before, m.after) for m in EVERY}) == len(EVERY) >= 150


def test_every_test_that_is_to_kill_is_there():
    for test in {t for m in EVERY for t in m.tests}:
        path, _, name = test.partition("::")
        there = run.ROOT / path
        assert there.exists(), test
        assert not name or f"def {name}(" in there.read_text(encoding="utf-8"), test


def test_every_package_has_mutants():
    assert COVERED <= PACKAGES
    for m in EVERY:
        assert pathlib.PurePath(m.file).parts[1].removesuffix(".py") == m.package


def mutant(before, after, *, file="refspec/sums.py"):
    return run.Mutant("sums", file, before, after, "", ("tests/test_sums.py",))


@pytest.fixture
def project(tmp_path):
    """A package of one function and its test."""
    for name, text in {
        "refspec/__init__.py": "",
        "refspec/pytest_plugin.py": "",
        "refspec/sums.py": RIGHT,
        "tests/test_sums.py": TEST,
    }.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "project"


@pytest.mark.slow
def test_a_failing_test_kills_and_nothing_else_does(project):
    cases = {
        "killed": mutant("a + b", "a - b"),
        "survived": mutant("a + b", "b + a"),
        "error on import": mutant("def add(", "raise OSError\ndef add("),
        "does not apply": mutant("a * b", "a / b"),
        "does not apply, says nothing new": mutant("a + b", "(a + b)"),
        "does not apply, is no program": mutant("a + b", "a +"),
        "does not apply, is gone": mutant("a", "b", file="refspec/gone.py"),
    }
    found = run.run(list(cases.values()), jobs=2, seconds=None, root=project)
    outcomes = [x.outcome for x in found]
    assert outcomes == [name.split(",")[0] for name in cases]
    assert (project / "refspec/sums.py").read_text(encoding="utf-8") == RIGHT
    text = run.table(found, 60.0)
    assert "1 of 7 killed, in 1 minutes" in text
    assert "| sums | 7 | 1 |" in text


@pytest.mark.slow
def test_tests_that_fail_by_themselves_kill_nothing(project):
    (project / "refspec/sums.py").write_text(RIGHT.replace("+", "*"), encoding="utf-8")
    (found,) = run.run([mutant("a * b", "a - b")], jobs=1, seconds=None, root=project)
    assert (found.outcome, found.mutant.means) == (run.ALONE, "no mutant")
    assert "1 failed" in found.said


def test_what_there_is_no_time_for_is_not_tried(project):
    assert run.run([mutant("a + b", "b + a")], jobs=1, seconds=-1, root=project) == []


def test_changed_packages_are_known_by_their_files(tmp_path):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True)

    git("init", "-q")
    for round_ in (0, 1):
        for name in ("refspec/kronecker/kfac.py", "tests/core/test_files.py"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"x = {round_}", encoding="utf-8")
        git("add", ".")
        git("commit", "-q", "-m", "a")
    assert run.changed("HEAD~1", PACKAGES, tmp_path) == {"kronecker", "files"}
    assert run.changed("HEAD", PACKAGES, tmp_path) == set()
    assert run.changed("no-such-commit", PACKAGES, tmp_path) == set()
    assert run.changed("HEAD", PACKAGES, pathlib.Path("/")) == set()


def test_every_package_has_its_first_before_any_has_its_second():
    names = [m.package for m in run.in_turns(EVERY)]
    assert set(names[: len(PACKAGES)]) == PACKAGES
    assert sorted(names) == sorted(m.package for m in EVERY)


def test_mutants_tried_again_are_counted_once():
    said = "survived\n--- refspec/sums.py\n+++ refspec/sums.py\n@@\n-a\n+b"
    before = {"on": "", "mutants": 9, "tried": 7, "killed": 3, "seconds each": 0.1}
    before |= {"survived": 4, "alive": dict.fromkeys("abcd", said), "failing": []}
    again = {
        "again": {"a": "a", "b": "c", "c": "b"},  # d has lost its lines
        "dead": ["a"],
        "alive": {"b": said.replace("+b", "+c"), "c": "no tests\n"},
        "failing": [],
    }
    found = library.merged(before, again)
    assert found["alive"] == {"b": again["alive"]["b"], "c": said}
    counts = [found[x] for x in ("tried", "killed", "later", "dropped", "survived")]
    assert counts == [6, 4, 1, 1, 2]
    assert library.row("sums", found).endswith("| 67 % |")
    assert library.file_of(said) == "refspec/sums.py"
    assert library.merged(before, {"failed": "no"}) == before | {"failed": "no"}


@pytest.mark.parametrize("name", ["library", "unseen"])
def test_every_survivor_of_the_library_is_explained(name):
    folder = pathlib.Path(library.__file__).parent
    results = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert list(results) == [x for x in library.MODULES if x in results] != []
    known = (folder / "survivors.md").read_text(encoding="utf-8")
    alive = [library.short(name) for x in results.values() for name in x["alive"]]
    assert not [name for name in alive if f"`{name}`" not in known]
    table = (folder / f"{name}.md").read_text(encoding="utf-8")
    assert table == library.table(results)


def test_words_costs_and_how_much_at_a_time_are_not_mutated():
    lines = """
    def f(x):
        step = backend.at_a_time(8 * x, x)  # not
        if x < step:
            raise ValueError(  # not
                f"{x}")  # not
        costs.done(Cost(2 * x))  # not
        return x + 1
    def work(x):  # not
        return 2 * x  # not
    """.splitlines()
    source = "\n".join(x[4:] for x in lines)
    found = unasked.unasked(source)
    assert found == {k for k, x in enumerate(lines, 1) if x.endswith("# not")}
    there = [
        (library.ROOT / "refspec").glob(files) for files, _ in library.MODULES.values()
    ]
    text = "".join(x.read_text() for y in there for x in y if x.is_file())
    assert all(f"def {name}(" in text for name in unasked.FUNCTIONS)
