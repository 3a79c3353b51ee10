"""The validating door: what passes, and that everything else is told in three parts."""

import array_api_strict
import numpy as np
import pytest

from refspec import checks

NAN = float("nan")


def refused(error, call, *words):
    with pytest.raises(error) as told:
        call()
    message = str(told.value)
    assert "must" in message
    assert ", got " in message
    assert "; " in message
    assert len(message) < 400
    for word in words:
        assert word in message


@pytest.mark.parametrize("xp", [np, array_api_strict], ids=["numpy", "strict"])
def test_arrays_of_the_right_kind_pass_and_give_their_namespace(xp):
    x = xp.asarray([[1.0, 2.0], [2.0, 3.0]], dtype=xp.float64)
    found = checks.expect_array("A", x, "(n, n)", symmetric=True, nonnegative=True)
    assert found.asarray is not None
    checks.expect_array("A", x, "(N, d)", sizes={"N": 2})
    checks.expect_array("A", x[:, :0], "(N, 0)")
    checks.expect_array("v", x[0, :], "(d,)")
    checks.expect_array(
        "w", xp.asarray([float("inf")], dtype=xp.float64), "(d,)", finite=False
    )
    assert checks.expect_alike(A=x, v=x[0, :]) == found


@pytest.mark.parametrize(
    ("error", "x", "letters", "how", "words"),
    [
        (TypeError, [1.0], "(d,)", {}, ("list", "asarray")),
        (TypeError, None, "(d,)", {}, ("NoneType",)),
        (TypeError, "x" * 10**6, "(d,)", {}, ("str",)),
        (ValueError, np.ones(2), "(n, n)", {}, ("(2,)",)),
        (ValueError, np.ones((2, 3)), "(n, n)", {}, ("(2, 3)",)),
        (ValueError, np.ones((2, 3)), "(N, d)", {"sizes": {"d": 2}}, ("d = 2",)),
        (ValueError, np.ones((2, 2)), "(N, 1)", {}, ("(2, 2)",)),
        (ValueError, np.ones(2, dtype=int), "(d,)", {}, ("int64", "astype")),
        (ValueError, np.ones(2, dtype=bool), "(d,)", {}, ("bool",)),
        (ValueError, np.ones(2, dtype=np.float16), "(d,)", {}, ("float16",)),
        (ValueError, np.ones(2, dtype=np.longdouble), "(d,)", {}, ("float64",)),
        (ValueError, np.ones(2) + 0j, "(d,)", {}, ("complex128", "real part")),
        (ValueError, np.array([1.0, NAN]), "(d,)", {}, ("1 of 2",)),
        (ValueError, np.array([-1.0]), "(d,)", {"nonnegative": True}, ("-1",)),
        (
            ValueError,
            np.array([[0.0, 1], [2, 0]]),
            "(n, n)",
            {"symmetric": True},
            ("1",),
        ),
    ],
)
def test_arrays_of_another_kind_are_refused(error, x, letters, how, words):
    refused(error, lambda: checks.expect_array("A", x, letters, **how), "A", *words)


def test_arrays_that_do_not_go_together_are_refused():
    one, two = np.ones(2), np.ones(2, dtype=np.float32)
    refused(ValueError, lambda: checks.expect_alike(a=one, b=two), "b float32")
    with pytest.raises(TypeError, match="mixture"):
        checks.expect_alike(a=one, b=array_api_strict.ones(2))


def test_numbers_of_any_kind_come_to_the_host():
    for x in ([1, 2], np.ones(2, dtype=np.float16), array_api_strict.asarray([1.0, 2])):
        assert checks.host_array("x", x, "(d,)").dtype == np.float64
    assert checks.host_array("x", 3, "()").shape == ()


@pytest.mark.parametrize(
    ("error", "x"),
    [
        (TypeError, ["a", "b"]),
        (TypeError, [None, 1.0]),
        (TypeError, object()),
        (ValueError, [1j, 0.0]),
        (ValueError, [True, False]),
        (ValueError, [[1.0], [1.0, 2.0]]),
        (ValueError, [[1.0, 2.0]]),
        (ValueError, [1.0, NAN]),
        (ValueError, [1.0, -1.0]),
    ],
)
def test_what_is_no_number_does_not(error, x):
    def call():
        checks.host_array("x", x, "(d,)", nonnegative=True)

    refused(error, call, "x")


def test_sizes_are_integers():
    assert checks.expect_size("n", np.int32(3), least=3) == 3
    for bad in (2.0, 2.9, True, np.True_, "3", None, 1j, [3], np.ones(2)):
        refused(TypeError, lambda bad=bad: checks.expect_size("n", bad), "n ")
    refused(ValueError, lambda: checks.expect_size("n", -1), "-1")
    refused(ValueError, lambda: checks.expect_size("n", 2, least=3), ">= 3")


def test_numbers_are_real_and_finite():
    assert checks.expect_number("x", np.float32(0.5)) == 0.5
    assert checks.expect_number("x", np.array(2)) == 2.0
    assert checks.expect_positive("x", 0, zero=True) == 0.0
    assert checks.expect_probability("x", 1) == 1.0
    for bad in (True, "1", None, 1j, [1.0], np.ones(1)):
        refused(TypeError, lambda bad=bad: checks.expect_number("x", bad), "x ")
    for bad in (NAN, float("inf"), 10**400):
        refused(ValueError, lambda bad=bad: checks.expect_number("x", bad), "finite")
    for bad in (0.0, -1):
        refused(ValueError, lambda bad=bad: checks.expect_positive("x", bad), "> 0")
    refused(ValueError, lambda: checks.expect_positive("x", -1, zero=True), ">= 0")
    for bad in (-0.1, 1.5):
        refused(ValueError, lambda bad=bad: checks.expect_probability("x", bad))
    refused(ValueError, lambda: checks.expect_probability("x", 1, ends=False), "(0, 1)")


def test_names_are_known_and_distinct():
    assert checks.expect_names("layers", iter(["b", "a"]), "abc") == ("b", "a")
    assert checks.expect_names("layers", (), "abc") == ()
    for bad in ("a", b"a", 3, None):
        refused(
            TypeError, lambda bad=bad: checks.expect_names("x", bad, "abc"), "['a']"
        )
    refused(ValueError, lambda: checks.expect_names("x", ["a", "a"], "abc"), "twice")
    refused(ValueError, lambda: checks.expect_names("x", ["d" * 10**6], "abc"), "'a'")
    refused(TypeError, lambda: checks.expect_names("x", [1], "abc"))
    checks.expect_choice("of", "a", ("a", "b"))
    refused(ValueError, lambda: checks.expect_choice("of", "\x1b[31m", ("a",)), "\\x1b")
    refused(TypeError, lambda: checks.expect_choice("of", ["a"], ("a",)))


def test_randomness_is_a_generator():
    checks.expect_generator("rng", np.random.default_rng(0))
    for bad in (0, None, np.random.RandomState(0), np.random):
        refused(
            TypeError,
            lambda bad=bad: checks.expect_generator("rng", bad),
            "default_rng",
        )


def test_types_come_with_advice():
    checks.expect_type("x", 1.0, (int, float), "")
    refused(
        TypeError,
        lambda: checks.expect_type("x", [], dict, "make a dict"),
        "dict",
        "list",
    )
