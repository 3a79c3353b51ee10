"""Array namespaces, devices and the few places where arrays come to the host.

Every kernel of refspec is written against the Python array API standard. The
namespace `xp` is inferred once, at the public door, from the arrays the user
gave; no framework is imported here unless the user asks for one by name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import array_api_compat
import numpy as np
import scipy.linalg

from refspec import costs, memory

Array = Any  # an array of any namespace: the standard has no common base class
Namespace = Any

_TEMPORARY = 2**25  # bytes
_CACHE = 2**19  # bytes of an array, beside others as large
_SQUARE = 2**8  # rows of a block that is mirrored
_SHARE = 32  # of what a computation may take: a few temporaries live at a time


def namespace(*arrays: Array) -> Namespace:
    """Return the one array namespace that all `arrays` belong to.

    What is no array, or a mixture, is a TypeError.
    """
    for array in arrays:
        if not is_array(array):
            raise TypeError(
                "expected arrays of one array-API namespace (numpy, cupy, torch, ...), "
                f"got {type(array).__name__}; convert it first, e.g. numpy.asarray(x)"
            )
    try:
        return array_api_compat.array_namespace(*arrays)
    except TypeError as error:
        kinds = ", ".join(sorted({type(a).__module__ for a in arrays}))
        raise TypeError(
            f"expected arrays of one namespace, got a mixture of {kinds}; "
            "convert them to one namespace first"
        ) from error


def is_array(x: Any) -> bool:
    """Whether x is an array of some library, not the class of its arrays."""
    return bool(array_api_compat.is_array_api_obj(x)) and not isinstance(x, type)


def named(name: str) -> Namespace:
    """Return a namespace chosen by name: `numpy`, `cupy` or `torch`.

    An ImportError says if the library is missing or, for CuPy, no device answers.
    """
    xp: Namespace
    if name == "numpy":
        import array_api_compat.numpy as xp
    elif name == "torch":
        try:
            import array_api_compat.torch as xp
        except ImportError as error:
            raise ImportError(
                "backend torch: PyTorch is not installed; pip install 'refspec[torch]'"
            ) from error
    elif name == "cupy":
        try:
            import array_api_compat.cupy as xp

            xp.zeros(1)  # the import succeeds without a driver, this does not
        except ImportError as error:
            raise ImportError(
                "backend cupy: CuPy is not installed; pip install 'refspec[cupy]', "
                "or 'refspec[cupy12]' beside CUDA 12"
            ) from error
        except Exception as error:
            raise ImportError(
                f"backend cupy: no CUDA device answered ({error}); "
                "use --backend numpy, or check the driver with nvidia-smi"
            ) from error
    else:
        raise ValueError(
            f"backend must be numpy, cupy or torch, got {name!r}; choose one of these"
        )
    return xp


def to_host(x: Array) -> np.ndarray:
    """Copy or view an array on the host as a NumPy array: an explicit transfer."""
    if isinstance(x, np.ndarray):
        return x
    if array_api_compat.is_torch_array(x):
        return np.asarray(x.detach().cpu().numpy())
    if array_api_compat.is_cupy_array(x):
        return np.asarray(x.get())
    cpu = getattr(array_api_compat.array_namespace(x), "Device", None)
    if cpu is not None:  # array-api-strict: only its CPU device converts
        return np.asarray(array_api_compat.to_device(x, cpu("CPU_DEVICE")))
    return np.asarray(x)


def from_host(x: np.ndarray, like: Array) -> Array:
    """Move a NumPy array to the namespace and device of `like`, dtype unchanged."""
    xp = namespace(like)
    # torch takes no other; a flipped axis of length 1 is contiguous to NumPy
    plain = (
        x.flags.c_contiguous and x.flags.writeable and min(x.strides, default=0) >= 0
    )
    if not plain:
        x = x.copy()
    return xp.asarray(x, device=device(like))


def beside(x: np.ndarray, like: Array) -> Array:
    """Return numbers of the host in the namespace, device and dtype of `like`."""
    return namespace(like).astype(from_host(np.asarray(x), like), like.dtype)


def device(x: Array) -> Any:
    """Return the device that holds `x`."""
    return array_api_compat.device(x)


def is_on_device(x: Array) -> bool:
    """Whether `x` lies in a GPU's memory."""
    return array_api_compat.is_cupy_array(x) or bool(getattr(x, "is_cuda", False))


def add_square(total: Array, x: Array) -> None:
    """Add xx' to a symmetric matrix in its place, on the host to its upper triangle.

    BLAS does half of the work there, and no other matrix as large as x is made;
    `mirrored` is what comes after the last.
    """
    # NumPy's BLAS does half of xx', too; SciPy's is another, whose threads wait for it
    if isinstance(total, np.ndarray) and 2 * len(total) > x.shape[1]:
        (update,) = scipy.linalg.get_blas_funcs(("syrk",), (total,))
        # of Fortran's order, in which total' is what lies there and the upper the lower
        update(1.0, x.T, beta=1.0, c=total.T, trans=1, lower=1, overwrite_c=1)
    else:
        total += x @ namespace(x).matrix_transpose(x)


def mirrored(total: Array) -> Array:
    """Return a matrix whose upper triangle is right, symmetric, in its place."""
    xp, n = namespace(total), total.shape[0]
    for i in range(0, n, _SQUARE):
        j = min(i + _SQUARE, n)
        total[j:, i:j] = xp.matrix_transpose(total[i:j, j:])
        own = total[i:j, i:j]
        below = xp.matrix_transpose(xp.triu(own, k=1))
        total[i:j, i:j] = xp.triu(own) + below
    return total


def square(x: Array) -> Array:
    """Return xx', symmetric to the bit: NumPy makes half of it, and mirrors that."""
    total = x @ namespace(x).matrix_transpose(x)
    return total if isinstance(total, np.ndarray) else mirrored(total)


def at_a_time(size: int, like: Array) -> int:
    """Return how many things of `size` bytes one temporary beside `like` may hold.

    On the host 32 MiB, large enough for GEMM, small beside the result; on a device a
    share of the memory that is free.
    """
    most = temporary()
    if is_on_device(like):
        if array_api_compat.is_cupy_array(like):
            free = sys.modules["cupy"].cuda.runtime.memGetInfo()[0]
        else:
            free = sys.modules["torch"].cuda.mem_get_info(like.device)[0]
        most = min(max(most, free // 64), 2**31)
    return max(1, most // max(size, 1))


def cached(size: int, like: Array) -> int:
    """Return how many things of `size` bytes work of several passes takes at a time.

    On the host as many as stay in a core's cache from one pass to the next.
    """
    return at_a_time(size, like) if is_on_device(like) else max(1, _CACHE // size)


def temporary() -> int:
    """Return the bytes of one temporary on the host."""
    return memory.budget(_TEMPORARY, _SHARE)


def itemsize(x: Array) -> int:
    """Return the bytes of one number of a real array."""
    return int(namespace(x).finfo(x.dtype).bits) // 8


def scalar(x: Array) -> float:
    """Bring one number to the host: the only synchronisation kernels make."""
    return float(to_host(x).reshape(()))


def eigh(A: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return ascending eigenvalues and eigenvectors of A (n, n), lower triangle.

    By the namespace's own solver, and by the host's LAPACK, an explicit transfer, where
    that does not converge (torch's float32 solver at times, where SciPy's does).
    """
    values, Q = _eigh(A, xp)
    costs.done(costs.eigenvectors(A.shape[0]))
    return values, Q


def eigvalsh(A: Array, xp: Namespace) -> Array:
    """Return ascending eigenvalues of A (n, n), as `eigh` does."""
    values = _eigvalsh(A, xp)
    costs.done(costs.eigenvalues(A.shape[0]))
    return values


def eigenimages(A: Array, rows: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return ascending eigenvalues of A (n, n), lower triangle, and rows Q, (m, n).

    Q, the eigenvectors, are not formed where LAPACK is at hand: of A = HTH', T
    tridiagonal with the eigenvectors S, rows Q = (rows H) S.
    """
    on_host = array_api_compat.is_numpy_namespace(xp) and len(A) > 1
    found = _turned(A, rows) if on_host else None
    if found is None:
        values, Q = eigh(A, xp)
        return values, rows @ Q
    costs.done(costs.images(A.shape[0], rows.shape[0]))
    return found


def _turned(A: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Do as `eigenimages` says; None if LAPACK does not converge."""
    n, names = len(A), ("sytrd", "sytrd_lwork", "ormqr", "stevd")
    sytrd, room, ormqr, stevd = scipy.linalg.lapack.get_lapack_funcs(names, (A, rows))
    size = int(room(n, lower=1)[0])
    H, diagonal, beside, scales, _ = sytrd(A, lower=1, lwork=size)
    # reflectors of all but the first coordinate, as those of a QR factorisation
    turned, size = rows.copy(order="F"), max(1, 64 * len(rows))
    turned[:, 1:] = ormqr("R", "N", H[1:, :-1], scales, turned[:, 1:], size)[0]
    values, S, failed = stevd(diagonal, beside)
    return None if failed or not np.all(np.isfinite(values)) else (values, turned @ S)


def _eigh(A: Array, xp: Namespace) -> tuple[Array, Array]:
    """Do as `eigh` says."""
    try:
        values, Q = xp.linalg.eigh(A)
    except (np.linalg.LinAlgError, RuntimeError) as error:
        _expect_no_convergence(error)
    else:
        if bool(xp.all(xp.isfinite(values))):
            return values, Q
    host = _solved_on_host(A, values_only=False)
    return from_host(host[0], A), from_host(host[1], A)


def _eigvalsh(A: Array, xp: Namespace) -> Array:
    """Do as `eigvalsh` says."""
    try:
        values = xp.linalg.eigvalsh(A)
    except (np.linalg.LinAlgError, RuntimeError) as error:
        _expect_no_convergence(error)
    else:
        if bool(xp.all(xp.isfinite(values))):
            return values
    return from_host(_solved_on_host(A, values_only=True), A)


def _expect_no_convergence(error: Exception) -> None:
    """Let pass what a solver says when it fails, and nothing else."""
    if not type(error).__name__.endswith("LinAlgError"):  # torch's own is private
        raise error


def _solved_on_host(A: Array, *, values_only: bool) -> Any:
    """Divide and conquer first; QR iteration, slower, converges where that does not."""
    host = to_host(A)
    if not np.all(np.isfinite(host)):
        raise ValueError(
            "a matrix must be finite to have eigenvalues, got "
            f"{np.sum(~np.isfinite(host))} of {host.size} entries nan or infinite; "
            "look for an overflow, and scale the data by a power of two"
        )
    how: dict[str, Any] = {"eigvals_only": values_only, "check_finite": False}
    try:
        return scipy.linalg.eigh(host, driver="evd", **how)
    except np.linalg.LinAlgError:
        return scipy.linalg.eigh(host, driver="ev", **how)


def pivoted_cholesky(block: Array, tolerance: float) -> tuple[Array, Array]:
    """Choose independent rows of a Gram matrix: pivots (r,), in order, factor (r, r).

    The array API has none, so a block of a few hundred rows goes to the host (LAPACK's
    pstrf); the factor is lower triangular, of block[pivots][:, pivots].
    """
    a = np.array(to_host(block))
    pstrf = scipy.linalg.lapack.get_lapack_funcs("pstrf", (a,))
    factor, pivots, rank, _ = pstrf(a, tol=tolerance, lower=1, overwrite_a=1)
    lower = np.tril(factor[:rank, :rank])
    return from_host(pivots[:rank] - 1, block), from_host(lower, block)


def concatenate(arrays: Iterable[Array], axis: int = 0) -> Array:
    """Concatenate without a copy when there is one array."""
    items = tuple(arrays)
    return items[0] if len(items) == 1 else namespace(*items).concat(items, axis=axis)
