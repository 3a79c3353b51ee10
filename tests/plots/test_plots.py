"""Every picture draws what it was given: any dtype, C = 2, features, empty levels."""

import builtins
import subprocess
import sys

import numpy as np
import pytest

import refspec
from refspec import attribution, curvature, hessian, models, plots, structure
from refspec.kronecker import compare_layer
from refspec.plots.margins import verdicts
from refspec.plots.means import distance_matrix
from refspec.theorems import Verdict
from support.snapshots import sampled


def attributions():
    """Attributions of every shape that pictures must survive."""
    usual = sampled(0, (5, 4, 6), [(4, 3)], equal=True)
    yield "gradients", refspec.attribute(curvature.fisher(usual))
    yield "features", refspec.attribute(curvature.features(usual, "fc"))
    single = sampled(1, (5, 4, 6), [(4, 3)], equal=True, dtype=np.float32)
    yield "float32", refspec.attribute(curvature.fisher(single))
    two = sampled(2, (3, 4), [(4, 3)], equal=True)
    yield "C = 2, no cross level", refspec.attribute(curvature.errors(two, "fc"))
    alone = sampled(3, (1, 1, 1), [(4, 3)], equal=True)
    yield "nothing within", refspec.attribute(curvature.fisher(alone))
    layer = refspec.Layer("fc", np.zeros((4, 1, 2)), np.zeros((4, 2, 1, 2)))
    zero = refspec.snapshot([layer], [0, 0, 1, 1], logits=np.zeros((4, 2)))
    yield "all zero", refspec.attribute(curvature.fisher(zero))


CASES = dict(attributions())


@pytest.fixture(params=list(CASES))
def result(request):
    return CASES[request.param]


def drawn(ax):
    """Render; a warning or a bad value would raise."""
    ax.get_figure(root=True).draw_without_rendering()
    return ax


@pytest.mark.slow
def test_histogram_bars_add_up_to_the_counts(result):
    values = np.asarray(result.spectrum.values)[: len(result.kinds)]
    seen = int((values > result.radius).sum())
    for log in (True, False):
        ax = drawn(plots.spectrum(result, log=log))
        tops = {}
        for bar in ax.patches:
            x = bar.get_x()
            tops[x] = max(tops.get(x, 0), bar.get_y() + bar.get_height())
        assert round(sum(tops.values())) == seen


def test_scree_draws_every_resolved_eigenvalue(result):
    ax = drawn(plots.scree(result))
    points = [x for x in ax.lines if x.get_linestyle() == "None"]
    values = np.asarray(result.spectrum.values, np.float64)[: len(result.kinds)]
    found = sorted(v for x in points for v in x.get_ydata())
    assert found == sorted(values[values > result.radius].tolist())


def test_a_spectrum_without_levels_is_drawn_as_one(result):
    """The same bars and points as of its attribution, without kinds and levels."""
    spectrum = result.spectrum
    values = np.asarray(spectrum.values, np.float64)
    seen = values[values > spectrum.radius]
    bars = drawn(plots.spectrum(spectrum)).patches
    assert round(sum(x.get_height() for x in bars)) == len(seen)
    (points,) = drawn(plots.scree(spectrum)).lines
    assert points.get_ydata().tolist() == seen.tolist()


def test_shares_stack_to_one(result):
    ax = drawn(plots.shares(result, top=5))
    n = min(5, len(result.kinds))
    top = max((b.get_y() + b.get_height() for b in ax.patches), default=0)
    sums = [sum(x[k] for x in result.shares.values()) for k in range(n)]
    total = max(sums, default=0)
    assert abs(top - total) <= 8 * np.finfo(np.float32).eps


@pytest.mark.slow
def test_knockouts_and_sandwich_draw(result):
    for ax in (plots.knockouts(result)[-1], plots.sandwich(result)):
        drawn(ax)


def test_a_knockout_of_no_level_is_refused():
    with pytest.raises(ValueError, match="level must be one of"):
        plots.knockout(CASES["features"], "between_cross_class")


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(3, 4), (5, 4, 6)])
@pytest.mark.parametrize("of", ["features", "errors"])
def test_means_are_drawn_and_named(sizes, of):
    s = sampled(4, sizes, [(4, 3)], equal=True)
    found = attribution.distances(
        attribution.class_means(getattr(curvature, of)(s, "fc"))
    )
    ax = drawn(plots.means_map(*found))
    assert [t.get_text() for t in ax.texts] == [str(c) for c in range(len(sizes))]
    drawn(distance_matrix(*found))
    ax = drawn(plots.means_map(*found, names=["oak", "elm", "fir"][: len(sizes)]))
    told = [t.get_text() for t in ax.get_legend().get_texts()]
    assert told[:2] == ["0 oak", "1 elm"]
    drawn(plots.means_map(*found, method="tsne"))
    with pytest.raises(ValueError, match="mds"):
        plots.means_map(*found, method="pca")


def test_depth_draws_what_is_resolved():
    s = refspec.datasets.digits_mlp()
    both = {of: attribution.depth_profile(s, of) for of in ("features", "errors")}
    for quantity in ("separation", "orthogonality", "cosine"):
        ax = drawn(plots.depth(both, quantity))
        assert [len(x.get_xdata()) for x in ax.lines[:2]] == [3, 3]
    with pytest.raises(ValueError, match="quantity"):
        plots.depth(both, "width")


@pytest.mark.slow
def test_matrices_side_by_side():
    s = refspec.datasets.digits_mlp()
    found = compare_layer(s, "fc3")
    ax = drawn(plots.approximations(found))
    assert ax.lines[0].get_ydata().tolist() == found.fisher.tolist()
    network = models.from_section(s.model)
    H = hessian.hessian(network, s.model.inputs, s.labels, layers=["fc3"])
    both = attribution.attribute_hessian(H, curvature.fisher(s, ["fc3"]))
    drawn(plots.hessian(both))
    ax = drawn(plots.hessian_parts(both, top=7))
    ends = {}
    for bar in ax.patches:
        ends[bar.get_x()] = ends.get(bar.get_x(), 0) + bar.get_height()
    gap = np.abs(np.asarray(list(ends.values())) - both.values[:7]).max()
    assert gap <= both.radius


def test_verdicts_beyond_the_line_do_not_hold():
    some = {
        "a": Verdict(0.1, 1.0),
        "b": Verdict(2.0, 1.0),
        "c": Verdict(0.0, 0.0),
        "d": Verdict(1.0, float("inf")),
        "e": Verdict(float("nan"), 1.0),
    }
    ax = drawn(verdicts(some))
    held, failed = (x for x in ax.lines if x.get_marker() in "oX")
    assert held.get_ydata().tolist() == [0, 2]
    assert failed.get_ydata().tolist() == [1, 3, 4]
    assert min(failed.get_xdata()) > 1 >= max(held.get_xdata())
    with pytest.raises(ValueError, match="at least one"):
        verdicts({})


@pytest.mark.slow
def test_pictures_are_written_whole_or_not_at_all(tmp_path):
    result = CASES["gradients"]
    plots.save(plots.attribution(result, "title")[0], tmp_path / "a.png")
    made = plots.shares(result)
    assert plots.save(made, tmp_path / "a.svg").stat().st_size > 0
    with pytest.raises(ValueError, match="must end in one of"):
        plots.save(made, tmp_path / "a.nope")
    with pytest.raises(OSError, match="absent"):
        plots.save(made, tmp_path / "absent" / "a.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg"]


def test_kinds_and_their_levels_share_colours():
    for level, kind in structure.KINDS.items():
        if level.startswith(("between", "within")):
            assert plots.COLOURS[level] == plots.COLOURS[kind]


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    whole = builtins.__import__

    def partial(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", partial)
    with pytest.raises(ImportError, match=r"refspec\[plots\]"):
        plots.figure()


@pytest.mark.slow
def test_importing_plots_does_not_import_matplotlib():
    code = "import sys, refspec.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
