"""refspec.hessian: a refusal names the argument, its shape in letters, a way out."""

import numpy as np
import pytest

from refspec import hessian, models
from refspec.hessian import hessian_vector_product

rng = np.random.default_rng(0)
NET = models.mlp([2, 3, 2], rng=rng)
X, Y = rng.standard_normal((4, 2)), np.array([0, 1, 0, 1])
S, P = models.snapshot(NET, X, Y), len(models.flatten(NET))
NAMES = "'linear1', 'linear2'"
UNKNOWN = f"each of layers must be one of {NAMES}, got 'fc'; choose one of these"
NONE = (
    f"layers must be distinct names among [{NAMES}], got none; leave layers out for all"
)
MANY = "layers must be a sequence of names, got 3; put it in a list, e.g. ['linear1']"
PART = "part must be one of 'hessian', 'fisher', 'residual', got 'bend'; "
LETTERS = f"vectors must have shape (P,) or (P, K) with P = {P} and dtype float64, got "
from support.clear import assert_says


def product(vectors, **options):
    return hessian_vector_product(NET, X, Y, vectors, **options)


def full(**options):
    return hessian.hessian(NET, X, Y, **options)


DOORS = [
    full,
    lambda **options: product(np.ones(P), **options),
    lambda layers: hessian.operator(S, layers),
    lambda layers: hessian.of_snapshot(S, layers),
]
TABLE = [
    *((lambda f=f: f(layers=["fc"]), UNKNOWN) for f in DOORS),
    *((lambda f=f: f(layers=[]), NONE) for f in DOORS),
    *((lambda f=f: f(layers=3), MANY) for f in DOORS),
    *((lambda f=f: f(part="bend"), f"{PART}choose one of these") for f in DOORS[:2]),
    *(
        (
            lambda f=f: f("mine"),
            "snapshot must be a Snapshot, got str; make one with refspec.snapshot(...)",
        )
        for f in (hessian.operator, hessian.of_snapshot)
    ),
    (
        lambda: product([1.0]),
        "vectors must be an array of shape (P, K), got list; convert it first, e.g. "
        "numpy.asarray(x, dtype=float)",
    ),
    (
        lambda: product(np.ones(P, dtype=int)),
        "vectors must be real floating, float32 or float64, got int64; ",
    ),
    (
        lambda: product(np.ones((P, 1, 1))),
        f"vectors must have shape (P, K), got ({P}, 1, 1); ",
    ),
    *(
        (
            lambda v=v: product(v),
            f"{LETTERS}{v.shape} and {v.dtype}; columns are vectors in the order of "
            "refspec.models.flatten",
        )
        for v in (np.ones(3), np.ones((3, 2)), np.ones(P, dtype=np.float32))
    ),
]


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_a_refusal_says_which_argument_and_what_to_do(row):
    assert_says(*TABLE[row], ends=[" "])
