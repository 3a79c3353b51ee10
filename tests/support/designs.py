"""Populations that Hypothesis draws."""

import numpy as np
from hypothesis import strategies as st

from refspec.populations import Population


@st.composite
def designs(draw, fixed="none"):
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    K, d = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    weights = rng.choice([0.0, 1.0, 1.0, 2.0], (sum(sizes), K))
    weights[0] = 1
    variances = rng.uniform(0.5, 2, 3) * rng.integers(0, 2, 3)
    means = {}
    if fixed == "class":
        means["class_means"] = rng.standard_normal((len(sizes), d))
    elif fixed == "cross":
        means["cross_means"] = rng.standard_normal((len(sizes), K, d))
    elif fixed == "global":
        means["global_mean"] = rng.standard_normal(d)
    within = rng.uniform(0.5, 2)
    if draw(st.booleans()):
        within = tuple(rng.uniform(0.5, 2, len(sizes)))
    if fixed != "class":
        means["class_covariance"] = variances[0] or None
    if fixed != "cross":
        means["cross_covariance"] = variances[1] or None
    return Population(sizes, d, weights, within, **means)
