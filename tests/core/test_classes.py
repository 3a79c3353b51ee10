import array_api_strict
import numpy as np
import pytest

import refspec
from refspec import classes


def parts(N=4, C=2, T=1, a=3, b=2, dtype=np.float64):
    rng = np.random.default_rng(0)
    layer = refspec.Layer(
        "fc",
        rng.standard_normal((N, T, a)).astype(dtype),
        rng.standard_normal((N, C, T, b)).astype(dtype),
    )
    p = np.full((N, C), 1 / C, dtype)
    return [layer], np.arange(N) % C, p


def test_samples_are_sorted_by_class_and_stay_together():
    layers, labels, p = parts(6, 3)
    made = refspec.snapshot(layers, labels, probabilities=p)
    order = np.argsort(labels, kind="stable")
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert made.offsets == (0, 2, 4, 6)
    assert np.array_equal(made.layers[0].features, layers[0].features[order])
    assert np.array_equal(made.layers[0].errors, layers[0].errors[order])
    with pytest.raises(ValueError, match=r"read-only"):
        made.labels[0] = 1


def test_everything_of_a_sample_is_sorted_with_it():
    layers, labels, _ = parts(6, 3)
    rng = np.random.default_rng(0)
    p, s, X = rng.random((6, 3)), rng.random(6), rng.random((6, 2))
    p, s = p / p.sum(axis=1, keepdims=True), s / s.sum()
    model = refspec.ModelSection(X, [], {})
    made = refspec.snapshot(
        layers, labels, probabilities=p, sample_weights=s, model=model
    )
    order = np.argsort(labels, kind="stable")
    assert not np.array_equal(order, np.arange(6))
    assert np.array_equal(made.probabilities, p[order])
    assert np.array_equal(made.sample_weights, s[order])
    assert np.array_equal(made.model.inputs, X[order])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_precisions_pass_and_mixtures_do_not(dtype):
    layers, labels, p = parts(dtype=dtype)
    assert (
        refspec.snapshot(layers, labels, probabilities=p).probabilities.dtype == dtype
    )
    other = np.float64 if dtype == np.float32 else np.float32
    with pytest.raises(ValueError, match=r"share one real floating dtype"):
        refspec.snapshot(layers, labels, probabilities=p.astype(other))


def test_parameters_are_counted_without_positions():
    layer = refspec.Layer("conv", np.ones((4, 7, 3)), np.ones((4, 2, 7, 5)))
    assert layer.parameters == 15


def test_every_sample_has_its_own_largest_logit():
    far = np.array([[0.0, 0.0], [-4096.0, -4096.0], [8192.0, 8192.0]])
    assert np.array_equal(classes.log_softmax(far), np.full((3, 2), -np.log(2.0)))


def test_probabilities_that_underflow_are_kept():
    layers, labels, _ = parts()
    logits = np.array([[0.0, -2000.0], [-2000.0, 0.0]] * 2)
    made = refspec.snapshot(layers, labels, logits=logits)
    assert made.probabilities.min() == 0.0
    assert np.isfinite(classes.log_softmax(logits)).all()


BROKEN = {
    r"labels must lie in 0\.\.C-1": lambda x, y, p: (x, y + 1, p),
    r"labels must be integers": lambda x, y, p: (x, y + 0.5, p),
    r"probabilities must": lambda x, y, p: (x, y, p + 2.0**-20),
    r"finite": lambda x, y, p: (x, y, np.where(p > 0, np.nan, p)),
    r"C >= 2 columns, got 1": lambda x, y, p: (x, 0 * y, p[:, :1] * 2),
    r"errors of layer 'fc' must have shape": lambda x, y, p: (
        [refspec.Layer("fc", x[0].features, x[0].errors[:, :1])],
        y,
        p,
    ),
    r"layer names must be distinct": lambda x, y, p: (x * 2, y, p),
    r"at least one Layer": lambda _, y, p: ([], y, p),
}


@pytest.mark.parametrize("message", sorted(BROKEN))
def test_bad_input_is_refused_by_name(message):
    x, y, p = BROKEN[message](*parts())
    with pytest.raises(ValueError, match=message):
        refspec.snapshot(x, y, probabilities=p)


def test_negative_weights_and_wrong_sums_are_refused():
    layers, labels, p = parts()
    for weights, match in (
        ([0.5, 0.5, 0.5, -0.5], "never signed"),
        ([0.5, 0.5, 0.5, 0.5], "sum to 1"),
    ):
        with pytest.raises(ValueError, match=match):
            refspec.snapshot(
                layers, labels, probabilities=p, sample_weights=np.array(weights)
            )


def test_exactly_one_of_logits_and_probabilities():
    layers, labels, p = parts()
    for more in ({}, {"logits": p, "probabilities": p}):
        with pytest.raises(ValueError, match=r"exactly one of logits"):
            refspec.snapshot(layers, labels, **more)


def test_namespaces_do_not_mix():
    layers, labels, p = parts()
    with pytest.raises(TypeError, match=r"mixture"):
        refspec.snapshot(layers, labels, probabilities=array_api_strict.asarray(p))


def test_a_class_array_checks_its_shapes():
    values, labels = np.zeros((3, 2, 4)), np.array([0, 0, 1])
    made = refspec.ClassArray(values, np.ones((3, 2)), labels)
    assert made.offsets == (0, 2, 3)
    with pytest.raises(ValueError, match=r"got \(2, 3\)"):
        refspec.ClassArray(values, np.ones((2, 3)), labels)
    with pytest.raises(ValueError, match=r"labels must be non-decreasing"):
        refspec.ClassArray(values, np.ones((3, 2)), labels[::-1])
    with pytest.raises(ValueError, match=r"K"):
        refspec.ClassArray(np.zeros((3, 3, 4)), np.ones((3, 3)), labels)
