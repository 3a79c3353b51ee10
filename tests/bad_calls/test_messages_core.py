"""The core: a refusal names the argument and a way out, in whole sentences."""

import numpy as np
import pytest

from refspec import Layer, curvature, snapshot
from refspec.attribution import attribute_hessian, depth_profile, distances

S = snapshot(
    [Layer("fc", np.ones((2, 1, 3)), np.ones((2, 2, 1, 2)))],
    [0, 1],
    logits=np.zeros((2, 2)),
)
MAKES = "refspec.snapshot(...) or refspec.load(...) makes one"
ADVICE = "take refspec.fisher(snapshot, layers) of the Hessian's layers"
from support.clear import assert_says


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: depth_profile("s"),
            f"snapshot must be a Snapshot, got str; {MAKES}",
        ),
        (
            lambda: depth_profile(S, "both"),
            "of must be one of 'features', 'errors', got 'both'; choose one of these",
        ),
        (
            lambda: curvature.fisher("s"),
            f"snapshot must be a Snapshot, got str; {MAKES}",
        ),
        (
            lambda: distances("m"),
            "means must be a Means, got str; class_means(moment) makes them",
        ),
        (
            lambda: attribute_hessian(np.eye(6), "m"),
            f"moment must be a SecondMoment, got str; {ADVICE}",
        ),
        (
            lambda: attribute_hessian(np.eye(6)[:5], curvature.fisher(S)),
            "hessian must have shape (P, P), got (5, 6); reshape it, or look whether "
            "its axes are in this order",
        ),
        (
            lambda: attribute_hessian(np.eye(6, dtype="f4"), curvature.fisher(S)),
            "hessian, moment must share one dtype, got hessian float32, moment "
            "float64; convert with xp.astype(x, xp.float64)",
        ),
    ],
)
def test_a_refusal_says_which_argument_and_what_to_do(call, message):
    assert_says(call, message)
