"""`refspec selftest`: every statement on the code is run, a failure is told."""

import json

import pytest

from refspec import selftest
from refspec.theorems import Theorem, all_theorems, asked, find
from support.command import run


def test_every_statement_answers_one_question():
    both = [*asked("data"), *asked("code")]
    assert {x.id for x in both} == {x.id for x in all_theorems()}
    assert len(both) == len(all_theorems())
    assert not [x.id for x in asked("data") if x.kind == "lemma" or x.deep]


@pytest.mark.slow
def test_every_statement_on_the_code_is_met_by_a_subject_and_holds():
    found = {}
    for r in selftest.selftest():
        assert r.status != "fails", (r.source, r.id, r.detail)
        found.setdefault(r.id, set()).add(r.status)
    for theorem in asked("code"):
        named = {"lemma"} if theorem.kind == "lemma" else {"holds"}
        assert (named if not theorem.deep else {"skipped"}) <= found[theorem.id]


def test_worlds_reach_statements_about_laws():
    found = {x.source: x.status for x in selftest.selftest(theorems=find(["W6"]))}
    assert found["canonical world"] == "holds"
    assert found["wine_sklearn"] == "holds"
    assert list(found) == list(selftest.subjects())


def test_deep_takes_every_network():
    assert {*selftest.subjects()} < {*selftest.subjects(deep=True)}


def test_a_statement_that_fails_ends_with_1(monkeypatch, tmp_path):
    def wrong(_):
        return [(2.0, 1.0, 2.0, "two is at most one")]

    theorem = Theorem("X1", "t", "identity", "s", "p.md", "t", wrong)
    monkeypatch.setattr("refspec.cli.verdicts.find", lambda _: (theorem,))
    record = tmp_path / "self.json"
    result = run("selftest", "--only", "X1", "--json", record)
    assert result.exit_code == 1
    assert "FAILS: X1 (t) on nested world: two is at most one" in result.output
    assert json.loads(record.read_text())["schema"] == "refspec.selftest/1"


def test_the_command_runs_what_is_asked_for():
    result = run("selftest", "--only", "L1,K2")
    assert result.exit_code == 0, result.output
    assert f"{2 * len(selftest.subjects())} hold, 0 fail" in result.output
