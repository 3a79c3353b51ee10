"""Pictures as the eye meets them: no text on another, one look a thing, axes named."""

import itertools
import re

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Patch
from matplotlib.text import Text

import refspec
from refspec import attribution, curvature, plots
from refspec.attribution import Clarity
from refspec.kronecker import compare_layer
from refspec.plots import matrices, means
from refspec.plots.margins import verdicts
from refspec.plots.prediction import predictions
from refspec.plots.ranks import all_means_interval
from refspec.populations import Population
from refspec.random_matrix import predict
from refspec.rounding import Bounded
from refspec.spectra import Spectrum
from refspec.theorems import Verdict
from support.snapshots import sampled

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse"]
LONG = [f"class with quite a long name {k}" for k in range(10)]


def wine():
    return refspec.datasets.wine_sklearn()


def distances(C, of="errors"):
    s = sampled(0, (3,) * C, [(6, 5)], equal=True)
    return attribution.distances(
        attribution.class_means(getattr(curvature, of)(s, "fc"))
    )


def profile(names):
    rng = np.random.default_rng(0)
    value = [Bounded(float(v), 0.0) for v in 10.0 ** rng.uniform(-3, 2, len(names))]
    return {n: Clarity(v, v, 0.3, 3) for n, v in zip(names, value, strict=True)}


def predicted():
    weights = np.full((60, 1), 1 / 60)
    made = predict(
        Population((30, 30), 20, weights, 1.0, class_means=5 * np.eye(2, 20))
    )
    return made, Spectrum(made.eigenvalues, None, 0.0, "", 20)


def hessian():
    s = refspec.datasets.iris_decay()
    H = refspec.hessian.of_snapshot(s, ["fc2", "fc3"])
    return attribution.attribute_hessian(H, curvature.fisher(s, ["fc2", "fc3"]))


PICTURES = {
    "attribution of wine": lambda: plots.attribution(refspec.attribute(wine()), "wine"),
    "attribution of features": lambda: plots.attribution(
        refspec.attribute(curvature.features(wine(), wine().layers[0].name)), "features"
    ),
    "attribution, diagonal seen": lambda: plots.attribution(
        refspec.attribute(curvature.fisher(sampled(0, (5, 4, 6), [(4, 3)], equal=True)))
    ),
    "knock-outs": lambda: plots.knockouts(refspec.attribute(wine())),
    "approximations": lambda: matrices.comparisons(
        {
            n: compare_layer(refspec.datasets.iris_decay(), n)
            for n in ("fc1", "fc2", "fc3")
        }
    ),
    "hessian": lambda: matrices.hessian_attribution(hessian(), "the Hessian"),
    "map of errors": lambda: [plots.means_map(*distances(8), names=NAMES)],
    "map of features": lambda: [
        plots.means_map(*distances(10, "features"), names=LONG)
    ],
    "map, linear": lambda: [plots.means_map(*distances(3), method="mds")],
    "distances": lambda: [means.distance_matrix(*distances(10))],
    "distances of many": lambda: [means.distance_matrix(*distances(30))],
    "distances of features": lambda: [means.distance_matrix(*distances(4, "features"))],
    "depth": lambda: [
        plots.depth(
            {
                x: profile([f"features.{k}.conv" for k in range(14)])
                for x in ("features",)
            }
        )
    ],
    "depth of few": lambda: [
        plots.depth({x: profile(["fc1", "fc2"]) for x in ("features", "errors")})
    ],
    "prediction": lambda: predictions(*predicted(), "a world"),
    "verdicts": lambda: [
        verdicts({f"A{k}": Verdict(10.0**-k, 1.0) for k in range(12)})
    ],
}


@pytest.fixture(scope="module", params=list(PICTURES))
def axes(request):
    made = PICTURES[request.param]()
    made[0].get_figure(root=True).canvas.draw()
    return made


def in_sight(axes):
    """Texts that are drawn, but for those at data: two means may lie side by side."""
    root = axes[0].get_figure(root=True)
    at_data = {t for ax in axes for t in ax.texts}
    seen = [
        t
        for t in root.findobj(Text)
        if t.get_visible() and t.get_text().strip() and t not in at_data
    ]
    ticks = {}  # a tick outside the axis has a label that is not drawn
    for ax in root.axes:
        for axis in (ax.xaxis, ax.yaxis):
            drawn = {id(x) for t in axis._update_ticks() for x in (t.label1, t.label2)}
            every = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            for t in every:
                for x in (t.label1, t.label2):
                    ticks[id(x)] = id(x) in drawn and x.get_visible()
    return [t for t in seen if ticks.get(id(t), True)]


@pytest.mark.slow
def test_no_text_runs_into_another_or_out_of_the_picture(axes):
    root = axes[0].get_figure(root=True)
    boxes = [(t, t.get_window_extent()) for t in in_sight(axes)]
    assert len(boxes) > 3
    width, height = root.canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        if one.get_rotation() == other.get_rotation() == 40:  # lines side by side
            apart = abs(a.x1 - b.x1) * np.sin(np.radians(40))
            assert apart >= one.get_fontsize() / 72 * root.dpi
            continue
        if 40 in (one.get_rotation(), other.get_rotation()):  # a box is no line's own
            continue
        # lines of text touch by their leading, a pixel or two, not by their ink
        told = one.get_text(), other.get_text()
        assert across <= 1 or down <= 3, told


def look(handle):
    """Colour and sign of something in a legend."""
    if hasattr(handle, "get_markerfacecolor"):
        sign = handle.get_marker(), handle.get_linestyle(), handle.get_linewidth()
        return to_hex(handle.get_color()), (*sign, handle.get_alpha())
    if isinstance(handle, Patch):
        filled = handle.get_fill()
        colour = handle.get_facecolor() if filled else handle.get_edgecolor()
        return to_hex(colour), (filled, handle.get_linestyle())
    if isinstance(handle, PathCollection):
        face, edge = handle.get_facecolor(), handle.get_edgecolor()
        colour = face if len(face) else edge
        return to_hex(colour[0]), (len(face), handle.get_sizes()[0])
    return str(handle.get_label()), type(handle).__name__


@pytest.mark.slow
def test_a_thing_has_one_look_and_a_look_one_thing(axes):
    looks = {}
    for ax in axes:
        found = ax.get_legend()
        if found is None:
            continue
        panel = {}
        for handle, text in zip(found.legend_handles, found.get_texts(), strict=True):
            told = re.sub(r" \(\d+\)|, [\d.e+-]+ decades off", "", text.get_text())
            if told == "the whole":  # its outline has the colour of what is taken out
                continue
            colour = look(handle)[0]
            assert looks.setdefault(told, colour) == colour, told
            assert look(handle) not in panel, (told, panel)
            panel[look(handle)] = told


@pytest.mark.slow
def test_axes_are_named_and_their_ticks_are_read(axes):
    for ax in axes:
        for axis in (ax.xaxis, ax.yaxis):
            if not len(axis.get_majorticklocs()):
                continue
            scale, told = axis.get_scale(), axis.get_label_text()
            if scale == "function":
                assert "root scale" in told
            if scale != "log":
                continue
            shown = [t for t in axis.get_ticklabels() if t.get_visible()]
            labels = [t.get_text() for t in shown if t.get_text()]
            if not labels:  # the panel below has them
                continue
            assert len(labels) >= 2
            ranks = "rank" in told
            for text in labels:
                pattern = r"\d+" if ranks else r"(\d·)?10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+"
                assert re.fullmatch(pattern, text), (told, text)
    if len(axes) > 1:
        told = [ax.get_legend().get_title().get_text() or ax.get_title() for ax in axes]
        assert all(told)
        assert len(set(told)) == len(axes)


def test_kfac_is_seen_where_ekfac_has_the_same_eigenvalues():
    """Hollow signs, KFAC's smaller ones on top: neither hides the other."""
    found = compare_layer(refspec.datasets.iris_decay(), "fc3")
    ax = plots.approximations(found)
    lines = {x.get_label().split(",")[0]: x for x in ax.lines}
    order = [x.get_label().split(",")[0] for x in ax.lines]
    assert order.index("KFAC") > order.index("EKFAC")
    assert lines["KFAC"].get_markersize() < lines["EKFAC"].get_markersize()
    for name in ("KFAC", "EKFAC", "CFAC"):
        assert lines[name].get_markerfacecolor() == "none"


def test_intervals_of_all_means_hold_and_are_narrower():
    result = refspec.attribute(curvature.fisher(sampled(0, (5, 4, 6), [(4, 3)])))
    lower, upper = all_means_interval(result)
    values = np.asarray(result.spectrum.values)[: len(result.kinds)]
    assert np.all((lower <= values) & (values <= upper))
    assert np.sum(upper - lower) < np.sum(result.upper - result.lower)


def test_the_clearest_map_is_that_which_keeps_more_neighbours():
    found = distances(8)
    kept = {}
    for method in ("mds", "tsne"):
        told = means.mapped(*found, method)[1]
        kept[method] = int(re.search(r"keeps (\d+)%", told)[1])
    told = means.mapped(*found)[1]
    assert told.startswith("t-SNE") == (kept["tsne"] > kept["mds"])
    assert f"keeps {max(kept.values())}%" in told
