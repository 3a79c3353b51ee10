"""The report: its page parsed, its numbers against the library's, nothing injected."""

import dataclasses
import json
import os
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import escape

import refspec
from refspec import attribution, claims, costs, curvature, plots, report, synthetic
from refspec.factors import Factors
from refspec.report import knockouts, page
from refspec.theorems import find
from refspec.verify import STATUSES
from support.command import run
from support.snapshots import sampled

VOID = {"meta", "link", "input", "br", "hr", "img", "wbr"}
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
    whole = attribution.attribute(basis)
    kept = len(found["values"][0])
    assert found["levels"] == [
        "between_class",
        "between_cross_class",
        "within_cross_class",
    ]
    groups = {n: [n] for n in found["levels"]}
    groups["between_class"].append("diagonal")  # nobody could see it
    assert whole.traces["diagonal"] < sum(whole.traces.values()) / 1000
    assert found["joined"] == ["diagonal"]
    digit = 0.5 * 10.0 ** (1 - knockouts._DIGITS)
    for m, removed in enumerate(knockouts.subsets(found["levels"])):
        names = [x for n in removed for x in groups[n]]
        values, radius = attribution.knockout(basis, names)
        values = np.pad(np.asarray(values), (0, kept))[:kept]
        gap = np.abs(np.asarray(found["values"][m]) - np.maximum(values, 0))
        assert np.all(gap <= digit * np.abs(values) + 2 * radius)
        expected = radius if m else basis.spectrum.radius
        # another solver's largest eigenvalue, another bound on its error
        assert abs(found["radius"][m] - expected) <= radius / 1000
        parts = found["shares"][m]
        assert sorted(parts) == sorted(set(found["levels"]) - set(removed))
        for k in range(kept if parts else 0):
            total = sum(x[k] for x in parts.values() if k < len(x))
            there = k < len(next(iter(parts.values())))
            assert abs(total - found["scale"] * there) <= len(parts) / 2
        for axis in ("log", "linear"):
            bins = found["bins"][axis][m]
            for b, count in enumerate(bins["counts"]):
                sums = [x[b] for x in bins["shares"].values()]
                assert abs(sum(sums) - count) <= 0.0005 * len(sums)
    for axis in ("log", "linear"):
        assert sum(found["bins"][axis][0]["counts"]) == found["resolved"]
    assert found["resolved"] == int((np.asarray(basis.values) > whole.radius).sum())
    for name, share in found["shares"][0].items():
        expected = sum(whole.shares[n] for n in groups[name])[: len(share)]
        assert np.all(np.abs(np.asarray(share) - found["scale"] * expected) <= 0.51)
    for name, compared in contents.comparisons.items():
        errors = contents.nearest[name].errors
        assert len(errors) == contents.snapshot.probabilities.shape[1]
        assert errors[0] < compared.frobenius_error["kfac"]
        assert errors[-1] < compared.frobenius_error["cfac"]
        shown = [f"<td>{page._number(x, 2)}</td>" for x in errors[[0, -1]]]
        assert "".join(shown) in text
    assert contents.nearest
    assert found["kinds"] == whole.kinds[: len(found["kinds"])]
    assert found["reach"]["bump"] == float(f"{max(whole.levels[basis.within]):.6g}")


def test_the_summary_says_what_the_attribution_found(digits):
    contents, text = digits
    counts, traces = contents.whole.counts, contents.whole.traces
    total, seen = sum(traces.values()), sum(counts.values())
    words = " ".join(text.split())
    assert f"Of {seen} eigenvalues that are told from zero" in words
    assert f"{counts['outlier']} are outliers made by class means" in words
    assert f"{counts['bump']} belong to a bump" in words
    assert f"and {counts['bulk']} are bulk" in words
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
        title = escape(found.claim.title)
        at = text.index(f"<strong>{found.claim.id}</strong> {title}")
        assert text[:at].rstrip().endswith(head)
        said = text[at : text.index("</summary>", at)]
        whose = "Paper" if "Papyan (2020)" in found.claim.source else "Others"
        assert f'"said">{whose}: ' in said
        places = [x for x in found.evidence if x.verdict != "cannot be judged"]
        if places:  # never what says that it is not judged
            assert f"({places[0].place}" in said
    assert text.index('id="claims"') < text.index('id="data"')


@pytest.mark.slow
def test_a_planted_world_is_no_network_that_is_right_or_wrong():
    recipe = synthetic.Recipe(classes=3, dim=12, per_class=5)
    contents = report.collect(recipe.plant().snapshot, theorems=())
    text = " ".join(report.render(contents).split())
    assert "What the spectrum of this world is made of" in text
    assert "This planted world covers all 12 parameters (1 module): 15 samples" in text
    assert "of them right" not in text
    assert "Cross-entropy" not in text
    assert "per_class = 5" in text
    # its one feature is 1: its means are one point, and one layer has no depth
    assert list(contents.means) == ["errors"]
    assert "There is no map of features" in text
    assert "Separation by depth" not in text


def test_theorems_lead_to_their_proofs_where_a_site_is_known(digits):
    contents, text = digits
    place = "theory/levels.md#L3"
    assert f"<code>{place}</code>" in text
    assert f"><code>{place}</code></a>" not in text
    linked = report.render(contents, "https://example.org/")
    address = "https://example.org/theory/levels.html#L3"
    assert f'<a href="{address}"><code>{place}</code></a>' in linked
    with pytest.raises(ValueError, match="make docs"):
        report.render(contents, "javascript:alert(1)")


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
    assert len(page.every("script")) == 3
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


@pytest.mark.slow
def test_kinds_are_counted_once_on_the_whole_page():
    """Summary, table, pictures: of those above the radius, whoever counts."""
    s = sampled(0, (5, 4, 6), [(4, 3)], equal=True)
    contents = report.collect(s, dense=0, theorems=())
    found = Page(report.render(contents)).data()["spectra"]
    for record, result in zip(
        found[:2], (contents.whole, contents.layers["fc"]), strict=True
    ):
        assert record["counts"] == result.counts
        assert sum(result.counts.values()) == record["resolved"]
    ax = plots.scree(contents.whole)
    told = {
        t.get_text().split(" (")[0]: t.get_text() for t in ax.get_legend().get_texts()
    }
    for kind, n in contents.whole.counts.items():
        assert told.get(kind, f"{kind} (0)") == f"{kind} ({n})"


@pytest.mark.slow
def test_a_diagonal_that_can_be_seen_has_a_level_of_its_own():
    s = sampled(0, (5, 4, 6), [(4, 3)], equal=True)
    (found, *_) = report.collect(s, dense=0, theorems=()).spectra
    assert found["levels"][0] == "diagonal"
    assert found["joined"] == []
    assert "c' = c" in report.render(report.collect(s, per_layer=False, theorems=()))


def test_theorems_that_fail_or_come_close_come_first(digits):
    contents, _ = digits
    (some, *_) = contents.verdicts
    margins = {"a": 1e-9, "b": 0.2, "c": float("nan"), "d": 3.0, "e": 0.3}
    given = [
        dataclasses.replace(
            some,
            id=name,
            margin=x,
            residual=x,
            bound=1.0,
            status="unmet" if x != x else "fails" if x > 1 else "holds",
        )
        for name, x in margins.items()
    ]
    order = page._ordered(given)
    assert [x.id for x in order["first"]] == ["d", "e", "b"]
    assert [x.id for x in order["rest"]] == ["a", "c"]
    text = report.render(dataclasses.replace(contents, verdicts=given))
    folded = text.index("The other 2 statements")
    assert text.index('id="theorem-d"') < text.index('id="theorem-b"') < folded
    assert folded < text.index('id="theorem-a"')
    told = text[text.index('id="statuses"') : text.index('id="theorem-table"')]
    for status in ("holds", "fails", "unmet"):
        assert f">{status}</dt><dd>{page.STATUSES[status]}" in told
    assert "skipped" not in told


def test_every_status_is_explained():
    assert tuple(page.STATUSES) == STATUSES


def test_numbers_of_others_are_written_as_powers():
    text = "1.76e-08, of 2e+10; fc1e-2x stays, as does 0x1e-3"
    times = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
    assert page._powers(text).startswith(f"1.76{times}10⁻⁸, of 2{times}10¹⁰; fc1e-2x")
    assert page._powers(text).endswith("0x1e-3")


def test_a_name_breaks_at_its_joints_and_a_number_nowhere():
    text = "0.043 in net/block_a.fc, 1_000"
    assert page._breaks(text) == "0.043 in net/<wbr>block_<wbr>a.<wbr>fc, 1_000"


@pytest.mark.slow
def test_maps_name_the_classes_and_say_what_they_keep():
    s = sampled(0, (5, 4, 6), [(4, 3)], equal=True)
    given = dataclasses.replace(s, provenance={"class_names": ["oak", "elm", HOSTILE]})
    contents = report.collect(given, per_layer=False, theorems=())
    assert contents.classes == ["oak", "elm", HOSTILE]
    text = report.render(contents)
    assert "0 oak" in text
    assert "of the nearest neighbours" in text


@pytest.mark.slow
def test_one_factorisation_serves_the_page_the_claims_and_the_depth_profile():
    """What is solved for is what the spectra need: the rest asks for it again."""
    s, stages = sampled(0, (5, 4, 6), [(4, 3), (3, 2)], equal=True), []
    said = ["start"]
    with costs.heard(lambda _: stages.append(said[-1])):
        contents = report.collect(s, dense=0, theorems=(), progress=said.append)
    assert any("Fisher information" in x for x in stages)
    assert "class structure by depth" in said
    assert "class structure by depth" not in stages
    assert list(contents.profiles["features"]) == [x.name for x in s.layers]
    for of, build in (("features", curvature.features), ("errors", curvature.errors)):
        for x in s.layers:
            alone = attribution.depth.class_clarity(build(s, x.name))
            mine = contents.profiles[of][x.name]
            bound = alone.separation.radius + mine.separation.radius
            assert abs(mine.separation.value - alone.separation.value) <= bound


def test_one_gram_matrix_serves_the_largest_and_the_densities(monkeypatch):
    """And the knock-outs of the page, and the gradient's alignment."""
    s = sampled(0, (12, 14, 13), [(90, 80), (80, 3)])
    moment = refspec.fisher(s)
    sides, outer = [], Factors.outer
    monkeypatch.setattr(
        Factors,
        "outer",
        lambda self, total=None: sides.append(self.shape) or outer(self, total),
    )
    few = {"per_layer": False, "theorems": (), "top": 1}
    made = report.collect(moment, **few)
    assert [shape[2] for shape in sides].count(moment.shape[1]) == 1
    apart = refspec.attribute(moment, top=9)  # C^2: what claims count
    away = np.abs(made.whole.spectrum.values - apart.spectrum.values)
    assert away.max() <= made.whole.radius + apart.radius
    assert list(made.densities) == list(refspec.densities(moment))


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
    """From "claims" on nothing is multiplied for edges, which are known by then.

    The gradient's alignment is another question, and asks for products of its own.
    """
    moment, done, before, alone = curvature.fisher(sampled()), [], [], []
    with costs.heard(alone.append):
        attribution.gradient_alignment(moment, 3)

    def told(what):
        if what == "claims":
            before.append(len(done))

    with costs.heard(done.append):
        report.collect(moment, theorems=(), progress=told)
    assert before == [len(done) - len(alone)]
    assert before > [0]
