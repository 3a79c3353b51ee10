"""Pictures of predictions draw all that was measured and all that was predicted."""

import numpy as np
import pytest

from refspec import plots
from refspec.plots.prediction import predictions
from refspec.populations import Population
from refspec.random_matrix import KroneckerPrediction, predict
from refspec.spectra import Spectrum
from refspec.synthetic import Recipe

WEIGHTS = np.full((60, 1), 1 / 60)
CASES = {
    "fixed": Population((30, 30), 20, WEIGHTS, 1.0, class_means=5 * np.eye(2, 20)),
    "random": Population((30, 30), 20, WEIGHTS, 1.0, class_covariance=9.0),
    "bulk only": Population((30, 30), 20, WEIGHTS, 1.0),
    "null space": Population((30, 30), 90, WEIGHTS, 1.0),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("log", [False, True])
def test_everything_is_drawn(name, log):
    made = predict(CASES[name])
    d = made.dimension
    measured = Spectrum(made.eigenvalues, None, 0.0, "", d)
    ax = plots.prediction(made, measured, log=log)
    ax.get_figure(root=True).draw_without_rendering()
    bars = sum(p.get_height() for p in ax.patches)
    assert round(bars) == np.sum(made.eigenvalues > 0)
    assert ax.get_xscale() == ("log" if log else "linear")
    curve = ax.lines[0].get_ydata()
    assert np.all(curve >= 0)
    low, high = ax.get_xlim()
    rows = [line for line in ax.lines if line.get_label() == "outliers measured"]
    found = rows[0].get_xdata() if rows else np.zeros(0)
    r = len(made.outliers.values)
    assert len(found) == r
    assert np.all((found > low) & (found < high))
    ticks = [t.get_text() for t in ax.get_xticklabels()]
    assert all("\\" not in t for t in ticks if t)


def test_the_curve_integrates_to_the_law():
    """Expected counts of bins, one bin apart, add up to the eigenvalues of the law."""
    made = predict(CASES["fixed"])
    ax = plots.prediction(made, Spectrum(made.eigenvalues, None, 0.0, "", 20))
    x, y = ax.lines[0].get_data()
    width = ax.patches[0].get_width()
    total = float(np.sum(y) * (x[1] - x[0]) / width)
    assert abs(total - 18) <= 18 * (x[1] - x[0]) / width


@pytest.mark.slow
def test_kfac_is_an_outline_of_all_its_eigenvalues():
    recipe = Recipe(
        classes=2, dim=6, per_class=40, means="orthogonal", feature_dim=5, strength=4.0
    )
    made = predict(recipe.plant().population("layer1"))
    assert isinstance(made, KroneckerPrediction)
    ax = plots.prediction(made, Spectrum(made.eigenvalues, None, 0.0, "", 30), log=True)
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "KFAC, expected factors" in labels
    ax.get_figure(root=True).draw_without_rendering()


@pytest.mark.slow
def test_both_axes_in_one_file(tmp_path):
    made = predict(CASES["fixed"])
    measured = Spectrum(made.eigenvalues, None, 0.0, "", 20)
    for name in ("p.png", "p.svg"):
        axes = predictions(made, measured, "a title")
        plots.save(axes[0], tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match="must end in one of"):
        plots.save(axes[0], tmp_path / "p.abc")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["p.png", "p.svg"]
