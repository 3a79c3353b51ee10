import array_api_strict
import numpy as np
import pytest

from refspec import backend, rounding


def test_a_mixture_of_namespaces_is_refused():
    with pytest.raises(TypeError, match=r"got a mixture of .*array_api_strict"):
        backend.namespace(np.ones(2), array_api_strict.ones(2))
    with pytest.raises(TypeError, match=r"got list"):
        backend.namespace([1.0, 2.0])


@pytest.mark.parametrize(("name", "kind"), [("jax", ValueError), ("cupy", ImportError)])
def test_backends_that_cannot_be_had_say_what_to_do(name, kind):
    with pytest.raises(kind, match=r"backend"):
        backend.named(name)


def test_arrays_come_to_the_host_and_go_back(asarray):
    x = asarray(np.arange(6.0).reshape(2, 3))
    host = backend.to_host(x)
    assert isinstance(host, np.ndarray)
    back = backend.from_host(host, x)
    assert backend.namespace(back) is backend.namespace(x)
    assert np.array_equal(backend.to_host(back), host)
    assert backend.scalar(x[1, 2]) == 5.0


def test_a_device_array_is_moved_explicitly():
    device = array_api_strict.Device("device1")
    x = array_api_strict.asarray([1.0, 2.0], device=device)
    assert backend.to_host(x).tolist() == [1.0, 2.0]
    assert backend.device(backend.from_host(np.zeros(2), x)) == device


@pytest.mark.parametrize("rank", [0, 1, 3, 6])
def test_pivoted_cholesky_finds_the_rank(asarray, rank):
    X = np.random.default_rng(rank).standard_normal((6, rank))
    A = X @ X.T
    u = rounding.unit_roundoff(A)
    floor = 6 * 6 * u * max(np.trace(A), u)
    pivots, lower = backend.pivoted_cholesky(asarray(A), floor)
    pivots, lower = backend.to_host(pivots), backend.to_host(lower)
    assert len(pivots) == rank
    chosen = A[np.ix_(pivots, pivots)]
    bound = rounding.gamma(rank + 2, u) * np.trace(A)
    assert rank == 0 or np.abs(lower @ lower.T - chosen).max() <= bound


def test_one_array_is_not_copied():
    x = np.ones((2, 2))
    assert backend.concatenate([x]) is x
    assert backend.concatenate(iter([x, x]), axis=1).shape == (2, 4)
