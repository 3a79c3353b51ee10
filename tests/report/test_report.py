"""The report: its page parsed, its numbers against the library's, nothing injected."""

import dataclasses
import json
import os
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import refspec
from refspec import attribution, claims, costs, curvature, report
from refspec.report import knockouts
from refspec.theorems import find
from support.command import run
from support.snapshots import sampled

VOID = {"meta", "link", "input", "br", "hr", "img"}
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>$\\frac$\"'&"


class Page(HTMLParser):
    """Elements with their attributes; refuses tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        key = self.open[-1] if self.open else ""
        self.text[key] = self.text.get(key, "") + data

    def every(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def data(self):
        """What the page carries for its script."""
        return json.loads(
            self.text["script"].split("\n", 1)[0].split('"use strict"')[0]
        )


@pytest.fixture(scope="module")
def digits():
    s = refspec.datasets.digits_mlp()
    contents = report.collect(
        s, per_layer=False, dense=200, theorems=find(["L3", "L8"])
    )
    return contents, report.render(contents)


def named(snapshot, provenance, name="fc"):
    layer = snapshot.layers[0]
    return refspec.Snapshot(
        (refspec.Layer(name, layer.features, layer.errors),),
        snapshot.probabilities,
        snapshot.labels,
        snapshot.sample_weights,
        provenance,
    )


@pytest.mark.slow
def test_the_page_nests_and_its_links_lead_somewhere(digits):
    page = Page(digits[1])
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for a in page.every("a"):
        assert a["href"].removeprefix("#") in ids
    for _, a in page.elements:
        for key in ("aria-labelledby", "aria-describedby", "for"):
            for target in (a.get(key) or "").split():
                assert target in ids
    headings = [tag for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert headings.count("h1") == 1
    assert headings[0] == "h1"
    assert page.every("html")[0]["lang"] == "en"
    for a in page.every("th"):
        assert a["scope"] in ("row", "col")


@pytest.mark.slow
def test_the_page_asks_nothing_of_the_network(digits):
    page = Page(digits[1])
    for tag, a in page.elements:
        for key in ("src", "href", "xlink:href", "action", "data", "srcset"):
            value = a.get(key) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, key, value)
    assert "@import" not in page.text["style"]
    assert "url(" not in page.text["style"]
    assert "fetch(" not in page.text["script"]


@pytest.mark.slow
def test_the_page_is_small(digits):
    assert len(digits[1].encode()) < 3_000_000


@pytest.mark.slow
def test_numbers_are_the_library_s(digits):
    contents, text = digits
    (found,) = Page(text).data()["spectra"]
    basis = attribution.eigenbasis(curvature.fisher(contents.snapshot))
    levels = found["levels"]
    for m in range(2 ** len(levels)):
        removed = [n for i, n in enumerate(levels) if m >> i & 1]
        values, radius = attribution.knockout(basis, removed)
        if not removed:
            values, radius = basis.values, basis.spectrum.radius
        values = np.asarray(values)
        values = np.pad(values, (0, max(0, len(basis.values) - len(values))))
        expected = [
            float(f"{max(v, 0):.6g}") for v in values[: len(found["values"][m])]
        ]
        assert found["values"][m] == expected
        assert found["radius"][m] == float(f"{radius:.6g}")
        assert sum(found["counts"][m]) <= int((values > contents.whole.radius).sum())
    whole = attribution.attribute(basis)
    assert sum(found["counts"][0]) == found["resolved"]
    assert found["resolved"] == int((np.asarray(basis.values) > whole.radius).sum())
    for share, name in zip(found["shares"], levels, strict=True):
        expected = [round(float(x), 4) for x in whole.shares[name][: len(share)]]
        assert share == expected
    assert found["kinds"] == whole.kinds[: len(found["kinds"])]


def test_the_summary_says_what_the_attribution_found(digits):
    contents, text = digits
    kinds, traces = contents.whole.kinds, contents.whole.traces
    total = sum(traces.values())
    assert f"{kinds.count('outlier')} of its eigenvalues are" in text
    share = f"{100 * traces['between_class'] / total:.3g}\N{NO-BREAK SPACE}%"
    assert f"<strong>{share}</strong>" in text
    assert contents.snapshot.provenance["digest"] in text
    assert refspec.__version__ in text
    assert "100\N{NO-BREAK SPACE}% of them right" in text


@pytest.mark.slow
def test_the_first_sentence_says_what_is_covered():
    s = sampled(0)
    for left_out, sentence in (
        ({"lstm": 5632}, f"This export {coverage_of(s, 5632)}; left out: lstm 5,632."),
        ({}, "This export covers all"),
        (None, "This export does not state what part of its network it covers."),
    ):
        said = {} if left_out is None else {"left_out": left_out}
        given = dataclasses.replace(s, provenance=said)
        page = report.render(report.collect(given, per_layer=False, theorems=()))
        summary = " ".join(
            page.split('id="summary">', 1)[1].split("</p>", 1)[0].split()
        )
        assert summary.startswith(sentence)
        assert ("Fisher information, all layers" in page) == (left_out == {})


def coverage_of(s, others):
    own = sum(x.parameters for x in s.layers)
    n = len(s.layers)
    return f"covers {own:,} of {own + others:,} parameters ({n} of {n + 1} modules)"


@pytest.mark.slow
def test_claims_come_first_with_the_verdicts_of_the_library(digits):
    contents, text = digits
    subject = claims.judge(contents.snapshot, dense=200, per_layer=False)
    for found, mine in zip(subject, contents.findings, strict=True):
        assert found.verdict == mine.verdict
        assert [x.reason for x in found.evidence] == [x.reason for x in mine.evidence]
        head = f'"verdict {found.verdict.replace(" ", "-")}">{found.verdict}</span>'
        at = text.index(f"<strong>{found.claim.id}</strong> {found.claim.title}")
        assert text[:at].rstrip().endswith(head)
    assert text.index('id="claims"') < text.index('id="data"')


@pytest.mark.slow
def test_nothing_of_an_export_can_inject(tmp_path):
    provenance = {
        "class_names": [HOSTILE] * 3,
        "architecture": HOSTILE,
        "framework": HOSTILE,
        "loss": HOSTILE,
        "versions": {HOSTILE: HOSTILE},
        "digest": HOSTILE,
    }
    s = named(sampled(0, (5, 1, 2), [(4, 3)], equal=True), provenance, name=HOSTILE)
    path = refspec.save(s, tmp_path / "hostile.npz")
    text = report.render(report.collect(refspec.load(path), dense=100, theorems=()))
    page = Page(text)
    assert len(page.every("script")) == 2
    assert not page.every("img")
    assert not any(key.startswith("on") for _, a in page.elements for key in a)
    assert "alert" in text
    assert HOSTILE in page.data()["spectra"][1]["title"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [((3, 4), np.float32), ((1, 1, 1), np.float64)],
)
def test_small_networks_have_reports(sizes, dtype):
    s = sampled(1, sizes, [(4, 3)], equal=True, dtype=dtype)
    contents = report.collect(s, dense=100, theorems=find(["L2"]))
    page = Page(report.render(contents))
    titles = [x["title"] for x in page.data()["spectra"]]
    assert len(titles) == 4
    assert [len(x["values"]) for x in page.data()["spectra"]] == [16, 16, 8, 16]
    assert contents.hessian is None
    assert "holds no network" in contents.hessian_note


def test_subsets_are_numbered_by_their_bits():
    levels = ["a", "b", "c"]
    for m, chosen in enumerate(knockouts.subsets(levels)):
        assert chosen == [n for i, n in enumerate(levels) if m >> i & 1]


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    s = sampled(2, (4, 5), [(4, 3)], equal=True)
    contents = report.collect(s, per_layer=False, dense=0, theorems=())
    with pytest.raises(OSError, match="absent"):
        report.write(contents, tmp_path / "absent" / "a.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        report.write(contents, tmp_path / "folder")
    assert [x.name for x in tmp_path.iterdir()] == ["folder"]


@pytest.mark.slow
def test_command_writes_the_page(tmp_path):
    source = refspec.save(
        sampled(2, (4, 5), [(4, 3)], equal=True), tmp_path / "two.npz"
    )
    page = tmp_path / "two.html"
    result = run("report", source, "-o", str(page), "--no-verify", "--no-per-layer")
    assert result.exit_code == 0, result.output
    assert "two.html" in result.output
    assert Page(page.read_text("utf-8")).every("h1")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["two.html", "two.npz"]


def test_wrong_use_exits_with_two_and_writes_nothing(tmp_path):
    for words in (
        ("absent.npz", "-o", str(tmp_path / "a.html")),
        ("-o", str(tmp_path / "absent" / "a.html")),
        ("-o", str(tmp_path)),
    ):
        result = run("report", *words)
        assert result.exit_code == 2, result.output
    assert list(tmp_path.iterdir()) == []


def test_wrong_data_exit_with_one_and_write_nothing(tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"not a zip")
    result = run("report", bad, "-o", str(tmp_path / "a.html"))
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert [x.name for x in tmp_path.iterdir()] == ["bad.npz"]


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("report", "-o", str(tmp_path / "a.html"))
    assert result.exit_code == 2
    assert "refspec[report]" in result.output


@pytest.mark.slow
def test_no_display_is_needed(tmp_path):
    """A backend that would open windows changes nothing."""
    source = refspec.save(
        sampled(2, (4, 5), [(4, 3)], equal=True), tmp_path / "two.npz"
    )
    code = "from refspec.cli import main; main()"
    words = ("attribute", str(source), "--plot", str(tmp_path / "a.png"))
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**environment, "MPLBACKEND": "TkAgg"},
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").stat().st_size > 0


def test_claims_on_a_moment_take_the_spectrum_that_is_there():
    """From "claims" on nothing is multiplied: its edges are known by then."""
    moment, done, before = curvature.fisher(sampled()), [], []

    def told(what):
        if what == "claims":
            before.append(len(done))

    with costs.heard(done.append):
        report.collect(moment, theorems=(), progress=told)
    assert before == [len(done)]
    assert done
