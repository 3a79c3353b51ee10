"""What fits: --top and --memory of every command that computes, and plans of it."""

import json

import numpy as np
import pytest

import refspec
from refspec import claims, datasets, export, plans
from support.command import run

NETWORK = "import refspec\ndef network():\n    return refspec.fisher({})\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with an export and, as a function of a file, its moment."""
    export.save(datasets.wine_sklearn(), tmp_path / "wine.npz")
    made = NETWORK.format("refspec.datasets.wine_sklearn()")
    (tmp_path / "net.py").write_text(made)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*words):
    found = run(*words, "--json", "out.json")
    assert found.exit_code == 0, found.output
    with open("out.json", encoding="utf-8") as file:
        return json.load(file)


@pytest.mark.parametrize(
    "what", sorted({*plans.WHAT} - {"densities", "hessian", "kfac"})
)
@pytest.mark.parametrize("options", [(), ("--top", 3)])
def test_a_moment_has_a_plan_as_its_export_has(here, what, options):  # noqa: ARG001
    moment = said("plan", "net.py:network", "--what", what, *options)
    export = said("plan", "wine.npz", "--what", what, *options)
    assert 0 < moment["products"] <= export["products"]
    assert moment["fits"]
    assert not moment["bounded"]


def test_a_plan_of_density_is_of_the_whole_and_of_each_knock_out(here):  # noqa: ARG001
    """As the command counts them: not of the whole alone."""
    found = said("plan", "wine.npz", "--what", "density")
    one, every = (plans.plan("wine.npz", what=x) for x in ("density", "densities"))
    assert found["products"] == every.products > 2 * one.products


@pytest.mark.parametrize("file", ["wine.npz", "net.py:network"])
def test_a_plan_with_draws_is_so_many_times_that_of_one(here, file):  # noqa: ARG001
    one = said("plan", file, "--what", "claims")
    drawn = said("plan", file, "--what", "claims", "--bootstrap", 15)
    assert drawn["products"] == 16 * one["products"]  # a power of two: exactly
    assert drawn["bytes"] == one["bytes"]
    wrong = run("plan", file, "--bootstrap", 15)
    assert wrong.exit_code == 2
    assert "--bootstrap goes with --what claims" in wrong.output


@pytest.mark.parametrize("file", ["wine.npz", "net.py:network"])
def test_verify_of_the_largest_says_what_it_says_of_all(here, file):  # noqa: ARG001
    every, few = said("verify", file), said("verify", file, "--top", 4)
    pairs = [*zip(every["records"], few["records"], strict=True)]
    skipped = [y for _, y in pairs if "needs every eigenvalue" in y["detail"]]
    assert {"A1", "A7"} <= {y["id"] for y in skipped}
    assert {y["status"] for y in skipped} == {"skipped"}
    for x, y in pairs:
        if y not in skipped:
            assert (x["id"], x["status"]) == (y["id"], y["status"])


def test_claims_on_the_largest_count_what_claims_on_all_count(here):  # noqa: ARG001
    every, few = said("claims", "wine.npz"), said("claims", "wine.npz", "--top", 2)
    subject = claims.registry.Subject(datasets.wine_sklearn(), 0, True, top=2)
    assert subject.top(refspec.fisher(subject.network)) == 9  # C^2, which are counted
    named = "above the within edge, certainly"
    for x, y in zip(*(z["networks"][0]["claims"] for z in (every, few)), strict=True):
        for here_, there in zip(x["places"], y["places"], strict=True):
            assert here_["numbers"].get(named) == there["numbers"].get(named)


def test_commands_keep_to_the_memory_that_is_said(here):  # noqa: ARG001
    plenty = ("--memory", "1GB")
    world = said("synth", "-o", "w.npz", "--classes", 3, "--dim", 8, *plenty)
    assert world["recipe"]["dim"] == 8
    free, kept = (said("predict", "w.npz", *x) for x in ((), plenty))
    assert np.array_equal(free["measured"], kept["measured"])
    records = said("selftest", "--only", "L1", *plenty)["records"]
    assert {x["status"] for x in records} == {"holds"}


def test_density_bounds_the_counts_of_the_whole_and_without_each_level(here):
    found = said("density", "wine.npz", "--plot", "a.png", "--probes", 4)["densities"]
    assert (here / "a.png").exists()
    whole = refspec.attribute(datasets.wine_sklearn())
    exact = {"the whole": whole.spectrum.values, **whole.knockouts}
    assert set(found) == set(exact)
    for name, x in found.items():
        for t, low, high in zip(x["thresholds"], x["lower"], x["upper"], strict=True):
            # the exact values are known to their radius
            least = np.sum(exact[name] > t + whole.radius)
            most = np.sum(exact[name] > t - whole.radius)
            assert low <= most
            assert t <= whole.radius or least <= high


@pytest.mark.slow
def test_a_report_of_the_largest_has_them_and_densities(here):
    found = said("report", "net.py:network", "--top", 4, "-o", "few.html")["fisher"]
    every = refspec.spectrum(datasets.wine_sklearn())
    assert not found["complete"]
    assert len(found["values"]) == 9  # C^2, which claims count
    off = np.abs(np.subtract(found["values"], every.values[:9])).max()
    assert off <= found["radius"] + every.radius
    assert "How many eigenvalues of the whole" in (here / "few.html").read_text()
