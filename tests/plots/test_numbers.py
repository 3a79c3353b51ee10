"""Numbers in pictures are those of the result, at a radius that is seen."""

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

import refspec
from refspec import plots
from refspec.populations import Population
from refspec.random_matrix import predict
from refspec.spectra import Spectrum
from support.snapshots import sampled


def axes():
    return Figure().subplots()


def coarse():
    """An attribution of which four eigenvalues are resolved."""
    a = refspec.attribute(refspec.fisher(sampled(0, (5, 4, 6), [(4, 3)])))
    values = a.spectrum.values
    return replace(a, radius=float(values[3] + values[4]) / 2), values


def test_scree_leaves_out_what_is_below_the_radius():
    a, values = coarse()
    ax = plots.scree(a, axes())
    points = [x for x in ax.lines if x.get_linestyle() == "None"]
    found = sorted(v for x in points for v in x.get_ydata())
    assert found == sorted(values[:4].tolist())
    lines = {x.get_label(): x.get_ydata() for x in ax.lines}
    of_means = a.lower + a.radius
    expected = of_means[of_means > a.radius]
    assert lines["class means alone"].tolist() == expected.tolist()
    cells = a.knockouts["within_cross_class"]
    expected = cells[cells > a.radius]
    assert lines["class and cross-class means"].tolist() == expected.tolist()


def test_a_knockout_is_what_stays_on_the_axis_of_the_whole():
    a, values = coarse()
    ax = plots.knockout(a, "within_cross_class", axes())
    rest = a.knockouts["within_cross_class"]
    seen = (rest > a.radius) & (rest > values[3] / 1.1)
    stays = sum(x.get_height() for x in ax.patches if hasattr(x, "get_height"))
    assert stays == np.sum(seen) < 4


def test_an_outlier_has_a_bar_of_two_deviations():
    weights, means = np.full((60, 1), 1 / 60), 5 * np.eye(2, 20)
    made = predict(Population((30, 30), 20, weights, 1.0, class_means=means))
    ax = plots.prediction(made, Spectrum(made.eigenvalues, None, 0.0, "", 20), axes())
    (bars,) = ax.containers[-1].lines[2]
    found = np.asarray([x[:, 0] for x in bars.get_segments()])
    values, two = made.outliers.values, 2 * made.outliers.deviations
    exact = np.stack([values - two, values + two], axis=1)
    assert np.abs(found - exact).max() <= 8 * np.spacing(exact.max())
