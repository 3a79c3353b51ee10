"""Every bad call of `refspec.testing`, `refspec.rounding`: refused in a sentence."""

import functools

import array_api_strict
import numpy as np
import pytest
import scipy.sparse.linalg

import refspec
from refspec import rounding
from refspec.testing import (
    assert_density,
    assert_inverse,
    assert_levels,
    assert_operator,
    assert_spectrum,
    assert_trace,
)
from support.clear import assert_clear

NAN, INF = float("nan"), float("inf")


@functools.cache
def case():
    """Return a snapshot of two layers with P = 9, and its Fisher."""
    rng = np.random.default_rng(0)
    d = rng.standard_normal((6, 2, 1, 2))
    p = np.full((6, 2), 0.5)
    layers = [
        refspec.Layer("one", rng.standard_normal((6, 1, 3)), d - d[:, ::-1]),
        refspec.Layer("two", rng.standard_normal((6, 1, 3)), (d - d[:, ::-1])[..., :1]),
    ]
    s = refspec.snapshot(layers, [0, 0, 0, 1, 1, 1], probabilities=p)
    return s, refspec.curvature.fisher(s).matrix()


def with_(x, value):
    x = np.array(x, dtype=np.result_type(x, value))
    x.flat[0] = value
    return x


class Operator:
    """An operator of side 9 that answers with what it is made of."""

    shape = (9, 9)

    def __init__(self, answer):
        self.answer = answer

    def matvec(self, v):
        return self.answer(v)


S, M = case()
L = np.linalg.eigvalsh(M)[::-1]
LEVELS = {
    k: x.matrix()
    for k, x in refspec.decompose(refspec.curvature.fisher(S)).levels.items()
}
NODES, WEIGHTS = np.tile(L, (3, 1)), np.full((3, 9), 1 / 9)
GRID = np.linspace(-1.0, 2 * L[0], 50)
SPECTRUM = refspec.spectrum(refspec.curvature.fisher(S))

NO_SNAPSHOT = [None, M, "digits", 3, {"layers": 1}]
NO_CHOICE = [None, "", "Fisher", 3, ["fisher"], b"fisher"]
NO_LAYER = ["three", ("one", "one"), ("one", "three"), (), 3, [1], b"one", [["one"]]]
NO_ORDER = [
    "rows",
    np.arange(8),
    np.arange(9.0),
    np.zeros(9, int),
    np.arange(9) + 1,
    np.arange(9)[None, :],
    None,
    3,
]
NO_DTYPE = ["float33", "int32", "complex64", 32, 3.0, "object", ["float32"], "f4,f4"]
NO_LIKE = ["float32", np.float32, 3, np.zeros(1, int), np.zeros(1, complex)]
NO_COUNT = [-1, 2.9, True, "3", None, 2.0]

OPERATORS = {
    "None": None,
    "a number": 3.0,
    "a string": "fisher",
    "a snapshot": S,
    "a list": M.tolist(),
    "complex": M + 1e3j,
    "slightly complex": M + 1e-12j,
    "a complex nan": M + 1j * NAN,
    "nan": with_(M, NAN),
    "inf": with_(M, INF),
    "not square": M[:, :8],
    "a vector": M[0],
    "a scalar array": np.array(3.0),
    "a cube": M[None, :, :],
    "bool": M > 0,
    "objects": M.astype(object),
    "strings": M.astype(str),
    "strict complex": array_api_strict.asarray(M + 1j),
    "operator of complex numbers": scipy.sparse.linalg.aslinearoperator(M + 1j * M),
    "products of nan": lambda v: v * NAN,
    "products of complex numbers": lambda v: M @ v * 1j,
    "products in a list": lambda v: list(M @ v),
    "products of None": lambda _: None,
    "products too short": lambda v: (M @ v)[:8],
    "products that are columns": lambda v: (M @ v)[:, None],
    "products of strings": lambda v: v.astype(str),
    "products of bools": lambda v: v > 0,
    "an operator too wide": scipy.sparse.linalg.aslinearoperator(M[:, :8]),
    "matvec of nan": Operator(lambda v: v * NAN),
    "matvec of a number": Operator(lambda _: 1.0),
    "matvec of another shape": Operator(lambda v: v[:3]),
}
VALUES = {
    "None": None,
    "a list": L.tolist(),
    "a number": 3.0,
    "none": L[:0],
    "a matrix": M,
    "columns": L[:, None],
    "a scalar": np.array(1.0),
    "nan": with_(L, NAN),
    "inf": with_(L, INF),
    "complex": L + 1e-9j,
    "bool": L > 0,
    "strings": L.astype(str),
}


NO_COLUMNS = [3.0, "Q", M.tolist(), M[0], M[:4], with_(M, NAN), with_(M, INF), M + 1j]
EVERY = (
    assert_levels,
    assert_operator,
    assert_spectrum,
    assert_density,
    assert_inverse,
    assert_trace,
)


def calls():
    """Yield names, the word that must be in the refusal, and the call."""
    door = functools.partial(functools.partial, assert_operator)
    for name, bad in OPERATORS.items():
        yield f"operator {name}", ("operator",), door(bad, S)
        if callable(bad) or name in ("complex", "nan", "inf", "a vector", "bool"):
            yield (
                f"level {name}",
                ("operator",),
                functools.partial(assert_levels, {"between_class": bad}, S),
            )
    for k, bad in enumerate(NO_SNAPSHOT):
        yield f"operator of {k}", ("snapshot",), door(M, bad)
        yield (
            f"spectrum of {k}",
            ("expected",),
            functools.partial(assert_spectrum, L, bad),
        )
        yield (
            f"density of {k}",
            ("expected",),
            functools.partial(assert_density, NODES, WEIGHTS, bad),
        )
        for function in (assert_inverse, assert_trace):
            how = {"damping": 1.0} if function is assert_inverse else {}
            found = M if how else 1.0
            call = functools.partial(function, found, bad, **how)
            yield f"{function.__name__} of {k}", ("snapshot",), call
        yield (
            f"levels of {k}",
            ("snapshot",),
            functools.partial(assert_levels, LEVELS, bad),
        )
    every = {
        "of": (
            NO_CHOICE,
            EVERY,
        ),
        "setting": (NO_CHOICE, EVERY[1:]),
        "layer": (
            NO_LAYER,
            EVERY,
        ),
        "order": (
            NO_ORDER,
            (assert_levels, assert_operator, assert_inverse, assert_trace),
        ),
        "dtype": (
            NO_DTYPE,
            EVERY,
        ),
        "like": (NO_LIKE, (assert_operator, assert_levels, assert_inverse)),
        "seed": (NO_COUNT, (assert_operator, assert_levels, assert_inverse)),
        "convention": ([2020, "2021", None], (assert_levels,)),
        "draws": (["uniform", None, 3], (assert_density, assert_trace)),
        "probes": ([0, *NO_COUNT], (assert_density, assert_trace)),
        "damping": ([0.0, -1.0, NAN, INF, "d", None, True], (assert_inverse,)),
        "residual": ([-1.0, NAN, INF, "r", None, True], (assert_inverse,)),
        "basis": (NO_COLUMNS, (assert_trace,)),
        "vectors": (NO_COLUMNS, (assert_spectrum, assert_trace)),
    }
    data = {
        assert_operator: (M, S),
        assert_spectrum: (L, S),
        assert_density: (NODES, WEIGHTS, S),
        assert_levels: (LEVELS, S),
        assert_inverse: (np.linalg.inv(M + np.eye(9)), S),
        assert_trace: (float(np.trace(M)), S),
    }
    for word, (values, functions) in every.items():
        for function in functions:
            for k, bad in enumerate(values):
                how = {"damping": 1.0} if function is assert_inverse else {}
                how[word] = bad
                yield (
                    f"{function.__name__} {word} {k}",
                    (word,),
                    functools.partial(function, *data[function], **how),
                )
    yield "hessian without a network", ("hessian",), door(M, S, of="hessian")
    for k, bad in enumerate([None, "1", M, NAN, INF, True, 1j]):
        yield f"trace {k}", ("trace",), functools.partial(assert_trace, bad, S)
    for name, bad in VALUES.items():
        yield (
            f"spectrum {name}",
            ("eigenvalues",),
            functools.partial(assert_spectrum, bad, S),
        )
    for k, bad in enumerate(
        [
            3.0,
            "r",
            L[:4].tolist(),
            L[:4] * -1,
            L[:3],
            M,
            with_(L[:4], NAN),
            with_(L[:4], INF),
            L[:4] + 1j,
        ]
    ):
        yield (
            f"residuals {k}",
            ("residuals",),
            functools.partial(assert_spectrum, L[:4], S, residuals=bad),
        )
    density = functools.partial(functools.partial, assert_density)
    for k, bad in enumerate(
        [
            None,
            3.0,
            NODES.tolist(),
            NODES[:2],
            NODES[None],
            with_(NODES, NAN),
            NODES + 1j,
            NODES[:, :0],
        ]
    ):
        yield f"nodes {k}", ("nodes",), density(bad, WEIGHTS, S)
    for k, bad in enumerate(
        [
            None,
            WEIGHTS.tolist(),
            with_(WEIGHTS, -0.5),
            with_(WEIGHTS, INF),
            WEIGHTS + 1j,
        ]
    ):
        yield f"weights {k}", ("weights",), density(NODES, bad, S)
    for k, bad in enumerate([0.0, -1.0, NAN, INF, "wide", True, 1j]):
        yield (
            f"width {k}",
            ("width",),
            density(GRID, np.abs(GRID), S, width=bad, steps=5),
        )
    for k, bad in enumerate([None, *NO_COUNT, 0]):
        yield (
            f"steps {k}",
            ("steps",),
            density(GRID, np.abs(GRID), S, width=0.1, steps=bad),
        )
    yield (
        "a grid that descends",
        ("grid",),
        density(GRID[::-1], np.abs(GRID), S, width=0.1, steps=5),
    )
    for k, bad in enumerate(
        [M, np.ones((9, 2)), np.ones(9), "z", np.ones((9, 3)) * 1j]
    ):
        yield f"vectors {k}", ("vectors",), density(NODES, WEIGHTS, S, vectors=bad)
    yield (
        "vectors of a spectrum",
        ("vectors",),
        density(NODES, WEIGHTS, SPECTRUM, vectors=np.ones((9, 3))),
    )
    levels = functools.partial(functools.partial, assert_levels)
    for k, bad in enumerate([None, [M], M, "between_class", 3]):
        yield f"found {k}", ("found",), levels(bad, S)
    for k, bad in enumerate(
        [{}, {"class": M}, {3: M}, {"between_class": M, "x\x1b[31m": M}]
    ):
        yield f"names {k}", ("levels",), levels(bad, S)
    for k, bad in enumerate(
        [NAN, INF, 1j, True, np.array(NAN), np.array(1j), np.bool_(True)]
    ):
        yield f"trace {k}", ("trace",), levels({"between_class": bad}, S)
    for of in ("errors", "features"):
        for layer in (None, ("one", "two")):
            yield f"{of} of {layer}", ("layer",), levels(LEVELS, S, of=of, layer=layer)
    certify = functools.partial(functools.partial, rounding.certified_eigenvalues)
    for k, bad in enumerate(
        [
            None,
            3.0,
            M.tolist(),
            M[0],
            M[:, :8],
            with_(M, NAN),
            with_(M, INF),
            M + 1j,
            M.astype(int),
            M.astype(np.float16),
            M + np.triu(M, 1),
            np.full((2, 2), 1.7e308),
        ]
    ):
        yield f"certified {k}", ("A must",), certify(bad)
    for k, bad in enumerate(
        [
            "Q",
            np.eye(8),
            np.eye(9)[:, :8],
            np.zeros((9, 9)),
            with_(np.eye(9), NAN),
            np.ones((9, 9)),
        ]
    ):
        yield f"certified vectors {k}", ("vectors",), certify(M, vectors=bad)


CALLS = {name: (words, call) for name, words, call in calls()}


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call_is_refused_in_a_sentence(name):
    words, call = CALLS[name]
    assert_clear(call, names=words)


def test_there_are_many_and_the_good_calls_pass():
    assert len(CALLS) >= 250
    assert_operator(M + 0j, S)
    assert_operator(scipy.sparse.linalg.aslinearoperator(M), S, like=np.zeros(1))
    assert_spectrum(L, S, dtype="float64", residuals=np.zeros(9))
    assert_levels(
        LEVELS | {"between_class": np.array(np.trace(LEVELS["between_class"]))}, S
    )
