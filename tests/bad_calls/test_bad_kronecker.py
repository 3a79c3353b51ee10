"""refspec.kronecker: every public function refuses what it cannot answer."""

import array_api_strict
import numpy as np
import pytest

from refspec import Layer, snapshot
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
from refspec.kronecker.classwise import running_average
from refspec.kronecker.eigensystems import certified_spectrum
from refspec.kronecker.operators import column_stacked, linear_operator, row_major
from support.clear import assert_clear

I2, I3, ONE = np.eye(2), np.eye(3), np.ones(1)
NAN, INF = np.full((2, 2), np.nan), np.full((2, 2), np.inf)
SKEW = np.asarray([[1.0, 0.5], [0.4, 1.0]])
rng = np.random.default_rng(0)
S = snapshot(
    [Layer("fc", rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2, 2, 2)))],
    [0, 0, 1, 1],
    logits=np.zeros((4, 2)),
)
P, W = S.probabilities, S.sample_weights
A, MANY = Kronecker(I2, I3), cfac(S, "fc")
BASIS = KroneckerBasis(I2, I3, np.ones((2, 3)))
TIKHONOV = factored_tikhonov(A, 1.0)
FACTORS = ClassFactors(ONE, I2[None], I3[None])
V = np.ones((2, 3))
SINGLE = np.float32
STRICT = ClassFactors(*(array_api_strict.asarray(x) for x in (ONE, I2[None], I3[None])))


def of_class(**changes):
    args = {"labels": S.labels, "probabilities": P, "sample_weights": W} | changes
    layer = args.pop("layer", S.layers[0])
    return class_factors(layer, **args)


def solved(operator=MANY, V=V, damping=1.0, preconditioner=TIKHONOV, **options):
    return damped_solve(operator, V, damping, preconditioner, **options)


FACTOR = {
    "nan": NAN,
    "inf": INF,
    "asymmetric": SKEW,
    "complex": 1j * I2,
    "half": I2.astype(np.float16),
    "whole": np.eye(2, dtype=int),
    "single": I2.astype(np.float32),
    "vector": np.ones(2),
    "oblong": np.ones((2, 3)),
    "list": [[1.0]],
    "none": None,
    "text": "I",
    "empty": np.zeros((0, 0)),
}
ROWS = {
    **{
        f"Kronecker left {k}": (lambda x=x: Kronecker(x, I3)) for k, x in FACTOR.items()
    },
    **{
        f"Kronecker right {k}": (lambda x=x: Kronecker(I3, x))
        for k, x in FACTOR.items()
    },
}
NAMES = dict.fromkeys(ROWS, ("left", "right"))
SQUARE = {k: x for k, x in FACTOR.items() if k != "single"}
ROWS |= {
    f"certified_spectrum {k}": (lambda x=x: certified_spectrum(x))
    for k, x in SQUARE.items()
    if k != "whole"
}
VECTORS = {
    "nan": np.full(6, np.nan),
    "complex": 1j * np.ones(6),
    "whole": np.ones(6, dtype=int),
    "half": np.ones(6, dtype=np.float16),
    "short": np.ones(5),
    "long": np.ones((6, 1, 1)),
}
for name, operator in (
    ("Kronecker", A),
    ("KroneckerSum", MANY),
    ("KroneckerBasis", BASIS),
    ("BlockDiagonal", BlockDiagonal((A,))),
):
    ROWS |= {
        f"{name} matvec {k}": (lambda o=operator, x=x: o.matvec(x))
        for k, x in VECTORS.items()
    }
TABLE = [
    *((call, NAMES.get(name, ("A", "vector"))) for name, call in ROWS.items()),
    (lambda: Kronecker(I2, array_api_strict.asarray(I3)), "namespace"),
    (lambda: KroneckerSum(ONE, NAN[None], I3[None]), "lefts"),
    (lambda: KroneckerSum(ONE, I2[None], SKEW[None]), "rights"),
    (lambda: KroneckerSum(ONE, I2, I3[None]), "lefts"),
    (lambda: KroneckerSum(np.ones(2), I2[None], I3[None]), "lefts"),
    (lambda: KroneckerSum(1j * ONE, I2[None], I3[None]), "coefficients"),
    (lambda: KroneckerSum(np.asarray([np.inf]), I2[None], I3[None]), "coefficients"),
    (lambda: KroneckerSum([1.0], I2[None], I3[None]), "coefficients"),
    (lambda: KroneckerSum(-ONE, I2[None], I3[None], ((I2, I3),)), "roots"),
    (lambda: KroneckerSum(ONE, I2[None], I3[None], ((I3, I2),)), "root"),
    (lambda: KroneckerSum(ONE, I2[None], I3[None], ((NAN, I3),)), "root"),
    (lambda: KroneckerSum(ONE, I2[None], I3[None], ()), "roots"),
    (lambda: KroneckerBasis(I2, I3, np.ones((3, 2))), "values"),
    (lambda: KroneckerBasis(I2, I3, np.full((2, 3), np.nan)), "values"),
    (lambda: KroneckerBasis(NAN, I3, np.ones((2, 3))), "left"),
    (lambda: KroneckerBasis(I2, np.ones((3, 2)), np.ones((2, 3))), "right"),
    (lambda: BlockDiagonal(()), "blocks"),
    (lambda: BlockDiagonal(A), "blocks"),
    (lambda: BlockDiagonal((A, I2)), "blocks"),
    (lambda: BlockDiagonal((A, None)), "blocks"),
    (lambda: BlockDiagonal((Kronecker,)), "blocks"),
    (lambda: A.matvec(array_api_strict.ones(6)), "namespace"),
    (lambda: linear_operator(I2), "operator"),
    (lambda: linear_operator(None), "operator"),
    (lambda: column_stacked(np.ones(5), 2, 3), "vector"),
    (lambda: column_stacked(np.ones(6), 2.0, 3), "b must"),
    (lambda: column_stacked(np.ones(6), 0, 3), "b must"),
    (lambda: column_stacked([1.0] * 6, 2, 3), "arrays"),
    (lambda: row_major(np.ones(6), 2, -3), "must"),
    (lambda: row_major(np.ones(6), True, 6), "must"),
    (lambda: damped_inverse(BASIS, 0.0), "damping"),
    (lambda: damped_inverse(BASIS, -1.0), "damping"),
    (lambda: damped_inverse(BASIS, np.nan), "damping"),
    (lambda: damped_inverse(BASIS, "1"), "damping"),
    (lambda: damped_inverse(BASIS, None), "damping"),
    (lambda: damped_inverse(A, 1.0), "operator"),
    (lambda: factored_tikhonov(A, 0), "damping"),
    (lambda: factored_tikhonov(A, np.inf), "damping"),
    (lambda: factored_tikhonov(A, 1j), "damping"),
    (lambda: factored_tikhonov(MANY, 1.0), "operator"),
    (lambda: solved(damping=-1.0), "damping"),
    (lambda: solved(damping=np.nan), "damping"),
    (lambda: solved(V=V.T), "V must"),
    (lambda: solved(V=V * np.nan), "V must"),
    (lambda: solved(V=V.tolist()), "V must"),
    (lambda: solved(V=V.astype(np.float32)), "V"),
    (
        lambda: solved(
            V=V.astype(SINGLE),
            preconditioner=KroneckerBasis(
                *(x.astype(SINGLE) for x in (I2, I3, np.ones((2, 3))))
            ),
        ),
        "operator",
    ),
    (lambda: solved(operator=A), "operator"),
    (lambda: solved(preconditioner=A), "preconditioner"),
    (
        lambda: solved(preconditioner=KroneckerBasis(I3, I2, np.ones((3, 2)))),
        "preconditioner",
    ),
    (lambda: solved(iterations=1.5), "iterations"),
    (lambda: solved(iterations=-1), "iterations"),
    (lambda: solved(relative_residual=-1.0), "relative_residual"),
    (lambda: solved(relative_residual=np.nan), "relative_residual"),
    (lambda: ClassFactors(-ONE, I2[None], I3[None]), "frequencies"),
    (lambda: ClassFactors(np.asarray([np.nan]), I2[None], I3[None]), "frequencies"),
    (lambda: ClassFactors(ONE, NAN[None], I3[None]), "errors"),
    (lambda: ClassFactors(ONE, I2[None], INF[None]), "features"),
    (lambda: ClassFactors(ONE, I2, I3[None]), "errors"),
    (lambda: ClassFactors([1.0], I2[None], I3[None]), "frequencies"),
    (lambda: of_class(layer="fc"), "layer"),
    (lambda: of_class(labels=[1, 1, 0, 0]), "labels"),
    (lambda: of_class(labels=[0, 0, 1, 2]), "labels"),
    (lambda: of_class(labels=[0, 0, 1]), "labels"),
    (lambda: of_class(labels=[0.0, 0.0, 1.0, 1.0]), "labels"),
    (lambda: of_class(labels=None), "labels"),
    (lambda: of_class(probabilities=P.T), "probabilities"),
    (lambda: of_class(probabilities=-P), "probabilities"),
    (lambda: of_class(probabilities=3 * P), "probabilities"),
    (lambda: of_class(probabilities=np.nan * P), "probabilities"),
    (lambda: of_class(sample_weights=9 * W), "sample_weights"),
    (lambda: of_class(sample_weights=-W), "sample_weights"),
    (lambda: of_class(sample_weights=W[:2]), "sample_weights"),
    (lambda: of_class(sample_weights=None), "sample_weights"),
    (lambda: of_class(sample_weights=np.asarray([0.75, -0.25, 0.25, 0.25])), ">= 0"),
    (lambda: of_class(probabilities=P + np.asarray([1.0, -1.0])), ">= 0"),
    (lambda: of_class(probabilities=P.astype(SINGLE)), "errors"),
    (
        lambda: of_class(
            probabilities=P.astype(SINGLE), sample_weights=W.astype(SINGLE)
        ),
        "errors",
    ),
    (lambda: of_class(setting="both"), "setting"),
    (lambda: of_class(fisher="true"), "fisher"),
    (lambda: running_average(FACTORS, FACTORS, 1.0), "decay"),
    (lambda: running_average(FACTORS, FACTORS, 9), "decay"),
    (lambda: running_average(FACTORS, STRICT, 0.5), "namespace"),
    (lambda: running_average(FACTORS, FACTORS, np.nan), "decay"),
    (
        lambda: running_average(FACTORS, ClassFactors(ONE, I3[None], I2[None]), 0.5),
        "batch",
    ),
    *(
        (call, name)
        for f in (kfac, ekfac, cfac)
        for call, name in (
            (lambda f=f: f(S, "conv"), "layer"),
            (lambda f=f: f(S, 0), "layer"),
            (lambda f=f: f(A, "fc"), "snapshot"),
            (lambda f=f: f(None, "fc"), "snapshot"),
            (lambda f=f: f(S, "fc", fisher="true"), "fisher"),
            (lambda f=f: f(S, "fc", fisher=None), "fisher"),
            (lambda f=f: f(S, "fc", setting="average"), "setting"),
            (lambda f=f: f(S, "fc", setting=2), "setting"),
            (lambda f=f: f(S, "fc", fisher="monte_carlo"), "rng"),
            (lambda f=f: f(S, "fc", fisher="monte_carlo", rng=0), "rng"),
            (lambda f=f: f(S, "fc", rng=np.random), "rng"),
            (lambda f=f: f(S, "fc", rng=rng, samples=0), "samples"),
            (lambda f=f: f(S, "fc", rng=rng, samples=2.9), "samples"),
        )
    ),
    (lambda: kfac(S, "fc", convention="asdl"), "convention"),
    (lambda: kfac(S, "fc", convention="backpack", setting="reduce"), "convention"),
    (lambda: compare_layer(S, "conv"), "layer"),
    (lambda: compare_layer("s", "fc"), "snapshot"),
    (lambda: compare_layer(S, "fc", np.eye(2)), "fisher"),
    (lambda: compare_layer(S, "fc", np.full((6, 6), np.nan)), "fisher"),
    (lambda: compare_layer(S, "fc", np.triu(np.ones((6, 6)))), "fisher"),
    (lambda: compare_layer(S, "fc", 1j * np.eye(6)), "fisher"),
    (lambda: compare_layer(S, "fc", top=-1), "top"),
    (lambda: compare_layer(S, "fc", top=0), "top"),
    (lambda: compare_layer(S, "fc", top=2.9), "top"),
    (lambda: compare_layer(S, "fc", setting="both"), "setting"),
]


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_bad_calls_are_refused_in_a_sentence(row):
    call, names = TABLE[row]
    assert_clear(call, names=names)
