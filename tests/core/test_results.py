"""Every result as a table of a notebook, a frame of pandas, a data set of xarray."""

import dataclasses
import functools
import html.parser
import json
import re
import sys

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

import refspec
from refspec import attribution, backend, claims, hessian, kronecker, random_matrix
from refspec.results import Result, Several
from refspec.synthetic import Recipe
from refspec.theorems import find


@functools.cache
def results():
    """Return a result of every kind, by name."""
    s, wine = refspec.datasets.digits_mlp(), refspec.datasets.wine_sklearn()
    fc3 = refspec.fisher(s, ["fc3"])
    H = hessian.of_snapshot(s, ["fc3"])
    operator = refspec.implicit.operator(H.__matmul__, H[:, :1], len(H))
    world = Recipe(classes=3, dim=9, per_class=20).plant()
    made = random_matrix.predict(world.population("layer1"))
    seen = refspec.spectrum(refspec.errors(world.snapshot, "layer1"))
    found = [
        s,
        refspec.coverage.of_snapshot(s),
        refspec.plan(s),
        refspec.decompose(fc3),
        refspec.spectrum(fc3),
        refspec.density(fc3, probes=2),
        refspec.attribute(fc3),
        refspec.attribute(refspec.features(s, "fc3")),
        attribution.attribute(fc3, top=4),
        attribution.attribute_hessian(H, fc3),
        attribution.class_means(fc3),
        attribution.depth_profile(s),
        operator.ends(3),
        kronecker.compare_layer(s, "fc3", top=12),
        made,
        random_matrix.discrepancy(made, seen),
        claims.judge(wine, "FD"),
        claims.judge(wine, "F")[0],
        claims.collapse(s),
        claims.edges(fc3),
        claims.signs(fc3),
        claims.product_errors(s, "fc3"),
        refspec.rounding.certified_eigenvalues(np.eye(3)),
        refspec.verify.verify(s, theorems=find(["L1", "L3"]), source="a <b> & c"),
        refspec.selftest.selftest(theorems=find(["L1"])),
    ]
    return {f"{type(x).__name__} {k}": x for k, x in enumerate(found)}


NAMES = list(results())
#: What a row is, what the columns of a group are, and their names: programs read them.
WORDS = {
    "Snapshot": ("layer", "T a b parameters", "N C"),
    "Coverage": ("module", "covered left_out", "sentence"),
    "Decomposition": ("level", "trace", "trace"),
    "Spectrum": (
        "rank",
        "value",
        "radius kind dimension n_zero left_out rows_left_out complete",
    ),
    "Density": ("threshold", "lower upper nodes weights", "n failure"),
    "Attribution": (
        "rank level",
        "value share kind proved lower upper knockout",
        "radius kind dimension n_zero left_out rows_left_out complete trace_*",
    ),
    "HessianAttribution": (
        "place level",
        "value fisher residual kind part angle",
        "weyl angle_bound radius",
    ),
    "Means": ("class coordinate", "mass mean", ""),
    "Profile": (
        "layer",
        "separation separation_radius orthogonality orthogonality_radius cosine index",
        "of",
    ),
    "Ends": ("rank", "value", "radius kind"),
    "LayerComparison": (
        "rank method",
        "value kind",
        "radius how log10_error_* frobenius_error_* class_rank_*",
    ),
    "Certified": ("rank", "value radius", ""),
}


class Table(html.parser.HTMLParser):
    """Reads a table: the text of its cells, by what they are."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.scopes = [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.scopes += [v for n, v in attributes if n == "scope"]
        if tag in ("td", "th", "caption"):
            self.cells.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells.setdefault(self.open[-1], [""])[-1] += data


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_a_table_that_says_the_repr(name):
    result = results()[name]
    data, _ = DisplayFormatter().format(result)
    assert {"text/plain", "text/html"} <= set(data)
    text = data["text/html"]
    table, v = Table(text), result.view()
    assert not table.open
    assert table.cells["caption"] == [repr(result)]
    shown, columns = min(10, len(v.labels)), list(v.columns.values())
    width = min(16, sum(len(c) if hasattr(c, "keys") else 1 for c in columns))
    assert len(table.cells.get("td", [])) == shown * width
    # every head says whether it is of a column or of a row
    assert table.scopes == ["col"] * (width + 1) + ["row"] * shown
    assert len(text) < 20_000


@pytest.mark.parametrize("name", NAMES)
def test_frame_and_data_set_hold_the_numbers_of_the_view(name):
    result = results()[name]
    v, frame, data = result.view(), result.to_dataframe(), result.to_xarray()
    assert list(frame.index) == list(v.labels)
    assert frame.index.name == v.row
    for column, entries in v.columns.items():
        parts = entries.items() if hasattr(entries, "items") else [("", entries)]
        for part, x in parts:
            at = {v.inner: part} if part else {}
            flat = f"{column}_{part}" if part else column
            np.testing.assert_array_equal(frame[flat], np.asarray(x))
            assert data[column].sel(at).dims == (v.row,)
            np.testing.assert_array_equal(data[column].sel(at), np.asarray(x))
    assert frame.attrs == data.attrs == dict(v.facts)


@pytest.mark.parametrize("name", [x for x in NAMES if x.split()[0] in WORDS])
def test_rows_groups_columns_and_facts_keep_their_names(name):
    v, kind = results()[name].view(), name.split()[0]
    grouped = any(hasattr(x, "items") for x in v.columns.values())
    row = f"{v.row} {v.inner}" if grouped else v.row
    one = re.compile("^(trace|.*_error|class_rank)_.*")
    facts = dict.fromkeys(one.sub(r"\1_*", x) for x in v.facts)
    assert WORDS[kind] == (row, " ".join([*v.columns, *v.apart]), " ".join(facts))


def test_the_views_are_the_attributes():
    s = refspec.datasets.digits_mlp()
    found = refspec.attribute(refspec.fisher(s, ["fc3"]))
    frame = found.to_dataframe()
    shares = [frame[f"share_{n}"] for n in found.shares]
    assert all((frame[f"share_{n}"] == x).all() for n, x in found.shares.items())
    assert len(shares) == 4
    assert list(frame["kind"]) == found.kinds
    assert frame.attrs["radius"] == found.radius
    assert frame["value"].is_monotonic_decreasing
    values = backend.to_host(found.spectrum.values)
    assert (found.spectrum.to_dataframe()["value"] == values).all()
    data = found.to_xarray()
    assert data["share"].dims == ("level", "rank")
    assert sum(found.traces.values()) == sum(
        data.attrs[f"trace_{n}"] for n in found.traces
    )
    profile = attribution.depth_profile(s)
    assert list(profile.to_dataframe().index) == [x.name for x in s.layers]
    assert json.dumps(
        refspec.coverage.of_snapshot(s).to_dataframe()["covered"].to_dict()
    )


def test_names_of_others_are_text_in_a_page():
    s = refspec.datasets.digits_mlp()
    layers = tuple(
        dataclasses.replace(x, name=f"<script>alert({k})</script>\x1b[31m")
        for k, x in enumerate(s.layers)
    )
    page = dataclasses.replace(s, layers=layers, model=None)._repr_html_()
    assert "<script" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;alert(2)" in page


@pytest.mark.parametrize(
    ("library", "method"), [("pandas", "to_dataframe"), ("xarray", "to_xarray")]
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, library, method):
    monkeypatch.setitem(sys.modules, library, None)
    result = refspec.spectrum(refspec.errors(refspec.datasets.digits_mlp(), "fc3"))
    with pytest.raises(ImportError, match=rf"needs {library}.*refspec\[dataframe\]"):
        getattr(result, method)()


def test_several_are_computed_when_they_are_reached_and_kept():
    made = []

    def make(x):
        made.append(x)
        return 2 * x

    found = Several(make, range(5))
    assert repr(found) == "Several(5, 0 known)"
    assert (found[1], found[-1], found[1]) == (2, 8, 2)
    assert made == [1, 4]
    assert list(found) == [0, 2, 4, 6, 8]
    assert found[1:3] == [2, 4]
    assert sorted(made) == [0, 1, 2, 3, 4]
    assert repr(found) == "Several(5)"
    with pytest.raises(IndexError):
        found[5]


def test_one_that_fails_can_be_asked_again():
    answers = iter([ValueError("once"), 7])

    def make(_):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = Several(make, "a")
    with pytest.raises(ValueError, match="once"):
        found[0]
    assert found[0] == 7


@pytest.mark.parametrize("kind", ["Attribution", "Spectrum", "Profile"])
def test_a_picture_is_one_call_away(kind, tmp_path):
    result = next(x for n, x in results().items() if n.startswith(kind))
    picture = result.plot()
    data, _ = DisplayFormatter().format(picture)
    assert data["image/png"][:4] == b"\x89PNG"
    assert picture.save(tmp_path / "a.svg").stat().st_size > 0
    assert all(x.figure is picture.axes[0].figure for x in picture.axes)


def test_what_has_no_picture_says_so():
    assert issubclass(claims.Findings, Result)
    with pytest.raises(TypeError, match=r"result must be.*to_dataframe\(\)"):
        claims.judge(refspec.datasets.digits_mlp(), "F").plot()


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_framework_that_is_missing_names_its_extra(name, monkeypatch):
    assert name in dir(refspec)
    assert name not in refspec.__all__
    monkeypatch.setitem(sys.modules, name, None)
    for module in (f"refspec.{name}", f"refspec.exporters.{name}"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError, match=rf"refspec\[{name}\]"):
        getattr(refspec, name)
