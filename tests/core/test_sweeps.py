"""Claims swept over a parameter: intervals that cover, pairs, rates."""

import json

import numpy as np
import pytest
import scipy.stats

import refspec
from refspec.sweeps import sweep


def power(x, rng):
    """Law x^(-1/2), times a factor that a draw has at every value, times noise."""
    common, own = rng.uniform(0.5, 1.5), rng.uniform(0.9, 1.1, 8)
    return float(x**-0.5 * common * own[int(np.log2(x))])


def test_intervals_cover_what_is_known():
    """Of a mean, of a rate, of a difference in pairs: at their confidence."""
    trials, seen = 200, np.zeros(3)
    for seed in range(trials):
        found = sweep(power, "x", [1, 2, 4, 8], draws=12, seed=seed, confidence=0.9)
        seen += [
            1.0 in found.interval(1),
            -0.5 in found.rate(),
            0.5 - 1.0 in found.against(1).interval(4),
        ]
    low, high = (scipy.stats.binom.ppf(p, trials, 0.9) for p in (1e-6, 1 - 1e-6))
    assert np.all(seen >= low)
    assert np.all(seen <= high)


def test_pairs_and_rates_know_what_values_share():
    """Intervals far narrower than independent draws would give."""
    found = sweep(power, "x", [1, 4], draws=30)
    apart = [found.interval(x).upper - found.interval(x).lower for x in (1, 4)]
    pairs = found.against(1).interval(4)
    assert pairs.upper - pairs.lower < np.hypot(*apart) / 2
    rate = found.rate()
    assert rate.upper - rate.lower < np.hypot(apart[0], 2 * apart[1]) / np.log(4) / 2


def test_the_formulas():
    """Student's interval and the slope, from the draws by hand."""
    found = sweep(power, "x", [1, 2, 8], draws=7, confidence=0.8)
    y, t = found.draws["claim"], scipy.stats.t.ppf(0.9, 6)
    half = t * np.std(y[1], ddof=1) / 7**0.5
    made, bound = found.interval(2), 2.0**-48
    assert abs(made.upper - made.value - half) <= bound
    assert abs(made.value - made.lower - half) <= bound
    slope = np.polyfit(np.log([1, 2, 8]), np.log(y.mean(axis=1)), 1)[0]
    assert abs(found.rate().value - slope) <= bound
    assert found.rate(confidence=0.99).lower < found.rate().lower


def test_several_numbers_and_plain_data():
    def both(x, rng):
        noise = rng.standard_normal()
        return {"clean": x + noise, "noisy": 2 * x + noise}

    found = refspec.sweep(both, "x", [0.0, 1.0], draws=5)
    less = found.between("noisy", "clean")
    assert abs(less.interval(1.0).value - 1) <= 2.0**-50
    record = json.loads(json.dumps(found.document(), allow_nan=False))
    assert record["values"] == [0.0, 1.0]
    assert record["quantities"]["noisy"]["draws"] == found.draws["noisy"].tolist()
    again = refspec.sweep(both, "x", [0.0, 1.0], draws=5)
    assert np.array_equal(again.draws["clean"], found.draws["clean"])
    assert "noisy" in repr(found)
    assert (
        found.view().columns["clean"]["mean"][0] == found.interval(0.0, "clean").value
    )
    with pytest.raises(TypeError, match="quantity must"):
        found.interval(0.0)


def test_words_as_values_have_no_rate():
    found = sweep(lambda _, rng: rng.uniform(), "kind", ["a", "b"], draws=3)
    with pytest.raises(ValueError, match="rate needs"):
        found.rate()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"claim": 3}, TypeError, "claim must be a function"),
        ({"values": []}, ValueError, "values must be different"),
        ({"values": [1, 1]}, ValueError, "values must be different"),
        ({"values": 3}, TypeError, "values must"),
        ({"draws": 1}, ValueError, "draws must"),
        ({"seed": -1}, ValueError, "seed must"),
        ({"confidence": 1.0}, ValueError, "confidence must"),
        ({"claim": lambda *_: float("nan")}, ValueError, "claim at 1 must"),
        ({"claim": lambda *_: {}}, ValueError, "claim must return a number"),
        ({"claim": lambda x, _: {str(x): 1.0}}, ValueError, "same names"),
    ],
)
def test_bad_calls(given, error, text):
    start = {"claim": power, "name": "x", "values": [1, 2], "draws": 2}
    with pytest.raises(error, match=text):
        sweep(**{**start, **given})


def test_values_that_were_not_swept_over_and_rates_of_what_is_not_positive():
    found = sweep(lambda x, _: -float(x), "x", [1, 2], draws=2)
    with pytest.raises(ValueError, match="swept over, got 3"):
        found.against(3)
    with pytest.raises(ValueError, match="rate needs"):
        found.rate()
