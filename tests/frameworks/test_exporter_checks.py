"""What exporters check themselves by: what is right passes, small faults do not."""

import numpy as np
import pytest

from refspec.exporters import checking

SMALLEST = {"float32": 1e-3, "float64": 1e-9}  # faults that must be seen, relative


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def layer(rng, dtype, n=12, C=3, T=1, a=7, b=5):
    features = rng.standard_normal((n, T, a)).astype(dtype)
    return features, rng.standard_normal((n, C, T, b)).astype(dtype)


def gradient(rows, drawn):
    """As a framework adds it up, in the dtype of the rows."""
    features, errors = rows
    r = drawn.weights.astype(features.dtype)
    e = (errors[:, drawn.label] * r[:, None, None]).reshape(-1, errors.shape[3])
    return e.T @ features.reshape(-1, features.shape[2])


@pytest.mark.parametrize("T", [1, 9])
@pytest.mark.parametrize("dtype", sorted(SMALLEST))
def test_faults_of_every_layer_are_seen_and_rounding_is_not(rng, dtype, T):
    path = checking.path_length([(7, 5), (6, 3)])
    for _ in range(50):
        rows = layer(rng, dtype, T=T)
        drawn = checking.probe(12, 3, rng)
        G = gradient(rows, drawn)
        checking.expect_gradient(0, "fc", rows, drawn, G, path)
        for wrong in (1 + SMALLEST[dtype], 1 - SMALLEST[dtype], 2, 0, np.nan):
            with pytest.raises(ValueError, match=r"layer 'fc' .* exclude=\['fc'\]"):
                checking.expect_gradient(0, "fc", rows, drawn, wrong * G, path)
        turned = rows[0], np.roll(rows[1], 1, axis=0)  # another sample's errors
        with pytest.raises(ValueError, match="layer 'fc'"):
            checking.expect_gradient(0, "fc", turned, drawn, G, path)


def test_samples_on_the_second_axis_are_seen_where_it_is_as_long(rng):
    """Sums over all samples are the same; sums with weights are not."""
    n = 4
    features, errors = layer(rng, "float64", n=n, T=n)
    swapped = np.swapaxes(features, 0, 1), np.swapaxes(errors, 0, 2)
    drawn = checking.probe(n, 3, rng)
    G = gradient((features, errors), drawn)
    checking.expect_gradient(0, "fc", (features, errors), drawn, G, 100)
    with pytest.raises(ValueError, match="first axis"):
        checking.expect_gradient(0, "fc", swapped, drawn, G, 100)


def test_what_is_not_finite_is_left_to_the_check_that_names_it(rng):
    features, errors = layer(rng, "float64")
    errors[:] = np.inf
    drawn = checking.probe(12, 3, rng)
    checking.expect_gradient(0, "fc", (features, errors), drawn, np.zeros((5, 7)), 100)
    checking.expect_alone(0, errors[:, :, 0, 0], errors[:, :, 0, 0], 100)


@pytest.mark.parametrize("dtype", sorted(SMALLEST))
def test_logits_that_depend_on_other_samples_are_refused(rng, dtype):
    z = rng.standard_normal((4, 3)).astype(dtype)
    checking.expect_alone(0, z, z, 100)
    checking.expect_alone(0, z, z * (1 + np.finfo(dtype).eps), 100)
    with pytest.raises(ValueError, match="each sample by itself"):
        checking.expect_alone(0, z, z * (1 + SMALLEST[dtype]), 100)


def test_what_is_drawn(rng):
    for n in (1, 2, 3, 4, 20):
        others, same = checking.replaced(n)
        assert same == n // 2
        assert np.array_equal(others[:same], range(same))
        assert not same or set(others) == set(range(same))
        assert len(others) == n
        drawn = checking.probe(n, 3, rng)
        assert np.count_nonzero(drawn.weights) == min(n, 4)
        assert len(set(np.abs(drawn.weights[drawn.weights != 0]))) == min(n, 4)
        assert drawn.label in range(3)
    labels = {checking.probe(4, 3, rng).label for _ in range(99)}
    assert labels == {0, 1, 2}
    assert {max(checking.checked_steps(5, rng)) for _ in range(99)} == {1, 2, 3, 4}
    for total in (None, 0, 1, 2):
        assert checking.checked_steps(total, rng) == {0, 1}
