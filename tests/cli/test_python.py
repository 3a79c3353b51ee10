"""Networks without an export, from functions of Python files."""

import json

import numpy as np
import pytest

import refspec
from refspec import curvature
from refspec.report.knockouts import rounded
from support.command import run

FILE = """
import numpy as np
import refspec
from refspec import curvature, differentiated, hessian
from refspec.implicit import HessianOperator
from beside import SEED


class Linear(differentiated.Jacobian):  # logits W x
    def __init__(self, x, C):
        self.x, self.C = x, C

    @property
    def shape(self):
        return len(self.x), self.C, self.C * self.x.shape[1]

    @property
    def like(self):
        return self.x

    def dot(self, V, i, j):
        W = V.reshape(self.C, -1, V.shape[1])
        return np.einsum("na,cam->ncm", self.x[i:j], W)

    def cross(self, S, i, j):
        W = np.einsum("na,ncm->cam", self.x[i:j], S)
        return W.reshape(-1, S.shape[2])


def network():
    rng = np.random.default_rng(SEED)
    x, z = rng.normal(size=(9, 3)), rng.normal(size=(9, 3))
    names = [("first.w", 6), ("last.w", 2), ("last.b", 1)]
    labels = np.repeat(range(3), 3)
    return differentiated.moment(Linear(x, 3), z, labels, blocks=names)


def pair():
    G = network()
    return HessianOperator(lambda V: G.matrix() @ V, G.weights, 9), G


def snapshot():
    return refspec.datasets.wine_sklearn()


def features():
    return curvature.features(snapshot(), "coefs_0")


def fails():
    return {}["absent"]


def stops():
    raise SystemExit(3)


def refused():
    return curvature.fisher(snapshot(), ["absent"])


number = 3
made = curvature.fisher(snapshot())
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("SEED = 0\n")
    path = tmp_path / "mynet.py"
    path.write_text(FILE)
    return path


def test_a_moment_goes_into_every_command_that_takes_one(file, tmp_path):
    record = tmp_path / "a.json"
    result = run("attribute", f"{file}:network", "--json", record)
    assert result.exit_code == 0, result.output
    assert "covers all 9 parameters (2 modules)" in result.output
    data = json.loads(record.read_text())
    assert data["coverage"]["modules"] == 2
    assert data["kind"].startswith("measured")
    result = run("spectrum", f"{file}:network", "--json", record, "--layer", "last")
    assert result.exit_code == 0, result.output
    assert "covers 3 of 9 parameters" in result.output
    assert "Fisher information, layer last" in result.output
    block = json.loads(record.read_text())
    assert block["dimension"] == 3
    assert block["values"][0] <= data["values"][0]
    result = run("verify", f"{file}:network", "--only", "A1,K1", "--json", record)
    assert result.exit_code == 0, result.output
    status = {x["id"]: x["status"] for x in json.loads(record.read_text())["records"]}
    assert status == {"A1": "holds", "K1": "unmet"}
    result = run("claims", f"{file}:network", f"{file}:snapshot", "--json", record)
    assert result.exit_code == 0, result.output
    judged = json.loads(record.read_text())["networks"]
    assert [x["source"] for x in judged] == [f"{file}:network", f"{file}:snapshot"]
    assert judged[0]["coverage"]["parameters"] == 9


def test_values_are_those_of_the_function(file, tmp_path):
    record = tmp_path / "s.json"
    assert run("spectrum", f"{file}:made", "--json", record).exit_code == 0
    true = refspec.spectrum(curvature.fisher(refspec.datasets.wine_sklearn()))
    assert json.loads(record.read_text())["values"] == true.values.tolist()
    result = run("check", f"{file}:snapshot")
    assert result.exit_code == 0, result.output
    assert "good: N =" in result.output


def test_a_hessian_by_products_is_attributed(file, tmp_path, monkeypatch):
    record = tmp_path / "h.json"
    words = ("attribute", f"{file}:pair", "--of", "hessian", "--json", record)
    for few, count in ((10**6, 9), (0, 4)):
        monkeypatch.setattr("refspec.cli.hessian.DENSE", few)
        result = run(*words, "--top", 2)
        assert result.exit_code == 0, result.output
        data = json.loads(record.read_text())
        assert len(data["values"]) == count
        gap = np.abs(np.subtract(data["values"], data["fisher"])).max()
        assert gap <= data["weyl"] + data["radius"]
        assert np.abs(data["parts"]["residual"]).max() <= data["weyl"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("spectrum", "{}"), 2, "name of a function in it"),
        (("spectrum", "{}:absent"), 2, "must hold a function 'absent'"),
        (("spectrum", "{}:number"), 2, "got int"),
        (("spectrum", "{}:fails"), 2, "got KeyError"),
        (("spectrum", "{}:stops"), 2, "got SystemExit"),
        (("spectrum", "{}:refused"), 1, "layers must be"),
        (("spectrum", "no{}:network"), 2, "no such file"),
        (("claims", "no{}:network"), 2, "no such file"),
        (("spectrum", "{}:network", "--layer", "nine"), 2, "first.w, last.w"),
        (("spectrum", "{}:made", "--layer", "fc"), 2, "one without names"),
        (("spectrum", "{}:network", "--of", "features"), 2, "an export; got"),
        (("spectrum", "{}:network", "--backend", "torch"), 2, "--backend must be"),
        (("kfac", "{}:network"), 2, "layer by layer"),
        (("check", "{}:network"), 2, "layer by layer"),
        (("attribute", "{}:network", "--of", "hessian"), 2, "got a moment alone"),
        (("verify", "{}:features"), 1, "K = 1"),
        (("claims", "{}:features"), 1, "K = 1"),
    ],
)
def test_what_is_no_network_is_refused_in_a_sentence(file, words, code, message):
    result = run(*[x.format(file) for x in words], columns=1000)
    assert result.exit_code == code, result.output
    assert message in " ".join(result.output.split())
    assert "fault of refspec" not in result.output


@pytest.mark.slow
def test_a_moment_has_a_report(file, tmp_path):
    page = tmp_path / "r.html"
    result = run("report", f"{file}:network", "-o", page)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert "This moment covers all 9 parameters (2 modules)" in text
    assert "by differentiation" in text
    assert "Module by module" in text
    found = json.loads(text.split('id="spectra-data">')[1].split("</script>")[0])
    titles = [x["title"] for x in found["spectra"]]
    assert titles == [
        "Fisher information, all layers",
        "Fisher information of module first",
        "Fisher information of module last",
    ]
    for missing in ("They are made of the features", "There are no maps here"):
        assert missing in text
    record = tmp_path / "a.json"
    for shown, layer in zip(found["spectra"], ((), ("first",), ("last",)), strict=True):
        words = [x for name in layer for x in ("--layer", name)]
        run("attribute", f"{file}:network", "--json", record, *words)
        traces = json.loads(record.read_text())["traces"].values()
        assert shown["traces"] == [rounded(x) for x in traces]
    assert run("report", f"{file}:made", "-o", page, "--no-verify").exit_code == 0
    assert "does not state" in page.read_text()
    assert run("report", f"{file}:features", "-o", page).exit_code == 1
