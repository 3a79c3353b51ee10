"""A fitted regression: the proximal map, its limits, and the curve over label noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refspec import classes
from refspec.random_matrix import predict_fit
from refspec.random_matrix.fitted import proximal


@given(st.integers(2, 5), st.floats(0.01, 20), st.integers(0, 2**31))
def test_logits_solve_the_proximal_equation(C, response, seed):
    rng = np.random.default_rng(seed)
    without, y = 4 * rng.standard_normal((9, C)), rng.integers(0, C, 9)
    h = proximal(without, y, response)
    p = np.exp(classes.log_softmax(h))
    off = np.abs(h + response * (p - np.eye(C)[y]) - without)
    assert np.max(off) <= 2.0**-28 * (1 + response + np.max(np.abs(without)))


def test_much_data_leave_nothing_to_chance():
    """N / D to infinity: no spread, no response, one alignment."""
    small, large = (
        predict_fit(3, 6, n, signal=4.0, decay=0.1, resolution=0.5) for n in (64, 256)
    )
    assert small.spread > 2 * large.spread
    assert small.response > 2 * large.response
    assert abs(small.alignment - large.alignment) < small.alignment / 16
    assert "minimum" in small.prediction.assumes[0]
    assert small.view().facts["alignment"] == small.alignment


def test_labels_that_say_nothing_align_nothing():
    """q = (C - 1) / C: all labels are equally likely."""
    made = predict_fit(3, 6, 64, signal=4.0, decay=0.1, label_noise=2 / 3)
    clean = predict_fit(3, 6, 64, signal=4.0, decay=0.1)
    assert made.alignment < clean.alignment / 16


@pytest.mark.slow
def test_why_a_fit_is_not_monotone():
    """theory/logistic.md, W14: least between none and .2 of the labels replaced."""
    C, D = 3, 6
    ratios = []
    for q in (0.0, 0.05, 0.2):
        made = predict_fit(C, D, 200, signal=16.0, decay=1e-3, label_noise=q)
        values = made.prediction.eigenvalues
        ratios.append(values[:C].mean() / values[C * (C - 1) : D * (C - 1)].mean())
    assert ratios[0] > ratios[2] > ratios[1]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"D": 5}, "at least 2 C"),
        ({"C": 1}, "C must be"),
        ({"decay": 0.0}, "decay"),
        ({"label_noise": 1.0}, "label_noise"),
        ({"signal": -1.0}, "signal"),
        ({"per_class": 0}, "per_class"),
    ],
)
def test_bad_input(given_, message):
    right = {"C": 3, "D": 6, "per_class": 8, "signal": 1.0, "decay": 0.1}
    with pytest.raises(ValueError, match=message):
        predict_fit(**{**right, **given_})
