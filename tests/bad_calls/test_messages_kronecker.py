"""refspec.kronecker: a refusal names the argument, its shape in letters, and a way out.

Whole sentences: where a function checks several arguments alike, only the words say
which one it was.
"""

import numpy as np
import pytest

from refspec import Layer
from refspec.kronecker import (
    BlockDiagonal,
    ClassFactors,
    Kronecker,
    KroneckerBasis,
    KroneckerSum,
    cfac,
    class_factors,
    compare_layer,
    damped_inverse,
    damped_solve,
    ekfac,
    factored_tikhonov,
    kfac,
)
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.kronecker.operators import column_stacked

I2, I3, ONE = np.eye(2), np.eye(3), np.ones(1)
A, G = Kronecker(I2, I3), KroneckerSum(ONE, I2[None], I3[None])
BASIS = KroneckerBasis(I2, I3, np.ones((2, 3)))
LAYER = Layer("fc", np.ones((4, 2, 3)), np.ones((4, 2, 2, 2)))
P, W, LABELS = np.full((4, 2), 0.5), np.full(4, 0.25), [0, 0, 1, 1]
SNAPSHOT = "snapshot must be a Snapshot, got str; make one with refspec.snapshot(...)"
SHAPE = "must have shape"

TABLE = [
    *((lambda f=f: f("s", "fc"), SNAPSHOT) for f in (kfac, ekfac, cfac, compare_layer)),
    (
        lambda: class_factors("fc", LABELS, P, W),
        "layer must be a Layer, got str; make one with refspec.Layer",
    ),
    (
        lambda: class_factors(LAYER, LABELS, P[:, :1], W),
        f"probabilities {SHAPE} (N, C) with N = 4, C = 2, got (4, 1); ",
    ),
    (
        lambda: class_factors(LAYER, LABELS, P, W[:3]),
        f"sample_weights {SHAPE} (N,) with N = 4, got (3,); ",
    ),
    (
        lambda: class_factors(LAYER, LABELS, 3 * P, W),
        "rows of probabilities must sum to 1 within rounding",
    ),
    (
        lambda: class_factors(LAYER, LABELS, P, 3 * W),
        "sample_weights must sum to 1 within rounding",
    ),
    (
        lambda: ClassFactors(-ONE, I2[None], I3[None]),
        "frequencies must be >= 0, got a smallest value of -1; ",
    ),
    (
        lambda: ClassFactors(np.ones(2), I2[None], I3[None]),
        f"errors {SHAPE} (C, b, b) with C = 2, got (1, 2, 2); ",
    ),
    (
        lambda: ClassFactors(ONE, I2[None], np.ones((2, 3, 3))),
        f"features {SHAPE} (C, a, a) with C = 1, got (2, 3, 3); ",
    ),
    (
        lambda: KroneckerSum(np.ones((1, 1)), I2[None], I3[None]),
        f"coefficients {SHAPE} (m,), got (1, 1); ",
    ),
    (
        lambda: KroneckerSum(ONE, np.ones((2, 2, 2)), I3[None]),
        f"lefts {SHAPE} (m, b, b) with m = 1, got (2, 2, 2); ",
    ),
    (
        lambda: KroneckerSum(ONE, I2[None], np.ones((2, 3, 3))),
        f"rights {SHAPE} (m, a, a) with m = 1, got (2, 3, 3); ",
    ),
    (
        lambda: KroneckerSum(ONE, I2[None], I3[None], ((I3, I3),)),
        f"left root 0 of roots {SHAPE} (r, b) with b = 2, got (3, 3); ",
    ),
    (
        lambda: KroneckerSum(ONE, I2[None], I3[None], ((I2, I2),)),
        f"right root 0 of roots {SHAPE} (s, a) with a = 3, got (2, 2); ",
    ),
    (
        lambda: KroneckerBasis(I2, I3, np.ones((2, 2))),
        f"values {SHAPE} (b, a) with b = 2, a = 3, got (2, 2); ",
    ),
    (
        lambda: KroneckerBasis(I2, I3, np.ones((2, 3), dtype=np.float32)),
        "left, values must share one dtype, got left float64, values float32; ",
    ),
    (
        lambda: BlockDiagonal(A),
        "blocks must be a tuple or list, got Kronecker; put them in a tuple",
    ),
    (
        lambda: BlockDiagonal((A, I2)),
        "block 1 of blocks must be a Kronecker, KroneckerSum, KroneckerBasis or ",
    ),
    (
        lambda: A.matvec(np.ones(5)),
        f"vector {SHAPE} (P,) or (P, m) with P = ab = 6, got (5,); ",
    ),
    (
        lambda: column_stacked(np.ones(5), 2, 3),
        f"vector {SHAPE} (P,) or (P, m) with ab = 6, got (5,); ",
    ),
    (lambda: column_stacked(np.ones(6), 0, 3), "b must be an integer >= 1, got 0; "),
    (lambda: column_stacked(np.ones(6), 2, 0), "a must be an integer >= 1, got 0; "),
    (lambda: certified_spectrum(np.ones((2, 3))), f"A {SHAPE} (n, n), got (2, 3); "),
    (
        lambda: damped_inverse(A, 1.0),
        "operator must be a KroneckerBasis, got Kronecker; e.g. from ekfac",
    ),
    (
        lambda: factored_tikhonov(BASIS, 1.0),
        "operator must be a Kronecker, got KroneckerBasis; e.g. from kfac",
    ),
    (
        lambda: damped_solve(A, np.ones((2, 3)), 1.0, BASIS),
        "operator must be a KroneckerSum, got Kronecker; e.g. from cfac",
    ),
    (
        lambda: damped_solve(G, np.ones((2, 3)), 1.0, A),
        "preconditioner must be a KroneckerBasis, got Kronecker; "
        "e.g. from factored_tikhonov",
    ),
    (
        lambda: damped_solve(G, np.ones((3, 2)), 1.0, BASIS),
        f"V {SHAPE} (b, a) with b = 2, a = 3, got (3, 2); ",
    ),
]
from support.clear import assert_says


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_a_refusal_says_which_argument_and_what_to_do(row):
    assert_says(*TABLE[row], ends=[" ", "rounding"])
