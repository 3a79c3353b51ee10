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


def test_any_view_on_the_host_is_taken(asarray):
    like, every = asarray(np.ones(2)), np.arange(6.0).reshape(3, 2)
    views = every[:, :1][:, ::-1], every[::-1].T, every[:0, ::-1], every.sum(1)[1]
    for x in (*views, np.broadcast_to(1.0, (2, 3))):
        found = backend.from_host(np.asarray(x), like)
        assert np.array_equal(backend.to_host(found), x)


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


class Failing:
    """A namespace whose solver says that it does not converge, or answers nan."""

    def __init__(self, xp, answer):
        self.linalg, self.all, self.isfinite = self, xp.all, xp.isfinite
        self.answer = answer

    def eigh(self, A):
        return self.eigvalsh(A), A

    def eigvalsh(self, A):
        if isinstance(self.answer, Exception):
            raise self.answer
        return A[0, ...] * self.answer


class _LinAlgError(RuntimeError):
    """As torch names its own."""


FAILURES = [np.linalg.LinAlgError("no"), _LinAlgError("no"), np.nan]


@pytest.mark.parametrize("answer", FAILURES, ids=["numpy", "torch", "nan"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_solver_that_does_not_converge_is_helped_by_the_host(asarray, answer, dtype):
    A = asarray(np.diag([3.0, 1.0, 2.0]).astype(dtype))
    xp = Failing(backend.namespace(A), answer)
    values, Q = backend.eigh(A, xp)
    assert backend.namespace(values, Q) is backend.namespace(A)
    assert values.dtype == A.dtype
    assert backend.to_host(values).tolist() == [1, 2, 3]
    assert np.abs(backend.to_host(Q)).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert backend.to_host(backend.eigvalsh(A, xp)).tolist() == [1, 2, 3]


def test_a_solver_that_converges_is_left_alone(asarray):
    A = asarray(np.diag([3.0, 1.0]))
    xp = backend.namespace(A)
    assert backend.to_host(backend.eigh(A, xp)[0]).tolist() == [1, 3]
    assert backend.to_host(backend.eigvalsh(A, xp)).tolist() == [1, 3]


def test_what_the_host_cannot_help_is_told(monkeypatch):
    for call in backend.eigh, backend.eigvalsh:
        with pytest.raises(ValueError, match=r"got 1 of 4 entries nan"):
            call(np.array([[np.nan, 0.0], [0.0, 1.0]]), Failing(np, np.nan))
        with pytest.raises(RuntimeError, match="out of memory"):
            call(np.eye(2), Failing(np, RuntimeError("out of memory")))
    slow, drivers = backend.scipy.linalg.eigh, []

    def eigh(A, driver, **how):
        drivers.append(driver)
        if driver == "evd":
            raise np.linalg.LinAlgError("no")
        return slow(A, driver=driver, **how)

    monkeypatch.setattr(backend.scipy.linalg, "eigh", eigh)
    assert backend.eigvalsh(np.diag([2.0, 1.0]), Failing(np, np.nan)).tolist() == [1, 2]
    assert drivers == ["evd", "ev"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 40])
@pytest.mark.parametrize("converges", [True, False])
def test_rows_are_turned_to_the_eigenvectors(asarray, monkeypatch, n, dtype, converges):
    """Images Y of rows X have YY' = XX' and YLY' = XAX', L the eigenvalues."""
    rng = np.random.default_rng(n)
    A, X = (rng.standard_normal((m, n)).astype(dtype) for m in (n, 5))
    A = A + A.T
    if not converges:
        monkeypatch.setattr(backend, "_turned", lambda *_: None)
    given = asarray(A), asarray(X)
    xp = backend.namespace(*given)
    L, Y = (backend.to_host(x) for x in backend.eigenimages(*given, xp))
    assert L.dtype == Y.dtype == dtype
    norm, size = float(np.max(np.abs(L))), float(np.sum(X.astype(np.float64) ** 2))
    radius = rounding.eigensolver_radius(n, norm, rounding.unit_roundoff(A))
    L, Y, A, X = (x.astype(np.float64) for x in (L, Y, A, X))
    assert np.abs(L - np.linalg.eigvalsh(A)).max() <= radius
    assert np.abs(Y @ Y.T - X @ X.T).max() <= 4 * radius * size / norm
    assert np.abs((Y * L) @ Y.T - X @ A @ X.T).max() <= 4 * radius * size
    assert n < 2 or radius < np.abs(np.diff(L)).max()  # it tells eigenvalues apart


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_are_added_in_place(asarray, dtype):
    """To what is there, of any order of the array; the two halves are the same bits."""
    rng, n = np.random.default_rng(0), 300
    x, y = (rng.standard_normal((n, 5)).astype(dtype) for _ in range(2))
    true = x.astype(float) @ x.T + y.astype(float) @ y.T
    given = asarray(x), asarray(np.asfortranarray(y))
    device = {"device": backend.device(given[0]), "dtype": given[0].dtype}
    there = backend.namespace(*given).zeros((n, n), **device)
    for some in given:
        backend.add_square(there, some)
    made = backend.to_host(backend.mirrored(there))
    u = float(np.finfo(dtype).eps) / 2
    assert np.abs(made - true).max() <= 16 * u * np.abs(true).max()
    assert made.dtype == dtype
    assert np.array_equal(made, made.T)
    alone = backend.to_host(backend.square(given[1]))
    away = alone - y.astype(float) @ y.T
    assert np.abs(away).max() <= 16 * u * np.abs(alone).max()
    assert np.array_equal(alone, alone.T)
