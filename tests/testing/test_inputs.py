"""Where parameters are, and how large errors are, in numbers that are known."""

import numpy as np

import refspec
from refspec import hessian, models, rounding
from refspec.testing import accuracy, diagnosis, inputs, questions

U = 2.0**-53


def asked(of="fisher", layer=None):
    rng = np.random.default_rng(0)
    network = models.mlp([2, 3, 2], rng=rng)
    snapshot = models.snapshot(network, rng.standard_normal((4, 2)), [0, 0, 1, 1])
    return questions.ask(snapshot, of, layer, "expand")


def test_places_are_those_of_the_order():
    """One layer of two outputs, two inputs and a bias; then one after it."""
    snapshot = refspec.snapshot(
        [
            refspec.Layer(n, np.ones((2, 1, 3)), np.ones((2, 2, 1, 2)))
            for n in ("one", "two")
        ],
        [0, 1],
        probabilities=np.full((2, 2), 0.5),
    )
    question = questions.ask(snapshot, "fisher", None, "expand")
    expected = {
        "row_major": [0, 1, 2, 3, 4, 5],
        "column_stacked": [0, 2, 4, 1, 3, 5],
        "torch": [0, 1, 4, 2, 3, 5],  # the weight row by row, then the bias
    }
    for order, places in expected.items():
        both = [*places, *(6 + k for k in places)]
        assert inputs.order_places(question, order).tolist() == both


def test_the_best_factor_may_be_negative():
    true = np.array([1.0, -2.0, 4.0])
    assert diagnosis.best_scale(-2 * true, true) == (-2.0, 0.0)
    assert diagnosis.best_scale(true, 0 * true)[0] == 0.0


def test_a_mistake_is_as_uncertain_as_its_factor_is_large():
    seen, error = np.array([8.0, 0.0]), np.array([0.0, 0.5])
    factors = {"factor 4": (4.0, "four times"), "factor 1/4": (0.25, "a quarter")}
    for s, fits in ((4.0, ["factor 4"]), (0.25, [])):
        found = diagnosis.fitting("", "", seen, 0.25, factors, s * seen + error)
        assert [x.name for x in found] == fits


def test_the_hessian_is_in_the_order_of_the_layers_asked_for():
    question = asked("hessian", ("linear2", "linear1"))
    P, snapshot = question.parameters, question.snapshot
    whole = hessian.of_snapshot(snapshot)
    first = snapshot.layers[0].parameters
    order = np.roll(np.arange(P), P - first)  # the second layer's parameters first
    found = questions.operator(question).apply(np.eye(P))
    bound = rounding.gamma(2.0**12, U) * np.abs(whole).sum()
    assert np.abs(found - whole[np.ix_(order, order)]).max() <= bound
    assert np.abs(found - whole).max() > bound


def test_a_moment_errs_by_its_weights_and_its_vectors():
    """A row 2 x 3, its errors off by 1/4, its features by 1/2, its weight by 1/8."""
    h, dh, d, dd = (np.full((1, 1), x) for x in (3.0, 0.5, 2.0, 0.25))
    sizes = [accuracy._Sizes(h, dh, d[:, :, None], dd[:, :, None])]
    w, dw = np.full((1, 1), 0.5), np.full((1, 1), 0.125)
    off = (2 + 0.25) * (3 + 0.5) - 6
    exact = (0.5 + 0.125) * off * (12 + off) + 0.125 * 36
    found = accuracy._moment_radius(sizes, w, dw, 0.0)
    assert abs(found - exact) <= rounding.gamma(32, U) * exact


def test_a_gradient_is_at_most_the_sum_of_its_positions():
    h, d = np.array([[3.0, 4.0]]), np.array([[[2.0, 1.0]]])
    g, dg = accuracy._gradients([accuracy._Sizes(h, 0 * h, d, 0.5 * d)])
    assert g.tolist() == [[(2 * 3 + 1 * 4) ** 2]]
    assert dg.tolist() == [[(1 * 3 + 0.5 * 4) ** 2]]
