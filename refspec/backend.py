"""Array namespaces, devices and the few places where arrays come to the host.

Every kernel of refspec is written against the Python array API standard. The
namespace `xp` is inferred once, at the public door, from the arrays the user
gave; no framework is imported here unless the user asks for one by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import array_api_compat
import numpy as np
import scipy.linalg.lapack

Array = Any  # an array of any namespace: the standard has no common base class
Namespace = Any

__all__ = [
    "Array",
    "Namespace",
    "concatenate",
    "device",
    "from_host",
    "named",
    "namespace",
    "pivoted_cholesky",
    "scalar",
    "to_host",
]


def namespace(*arrays: Array) -> Namespace:
    """Return the one array namespace that all `arrays` belong to.

    Raises
    ------
    TypeError
        If an argument is not an array, or the arrays mix namespaces.

    Examples
    --------
    >>> import numpy as np
    >>> namespace(np.ones(2)).__name__
    'array_api_compat.numpy'
    """
    for array in arrays:
        if not array_api_compat.is_array_api_obj(array):
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


def named(name: str) -> Namespace:
    """Return a namespace chosen by name: `numpy`, `cupy` or `torch`.

    Raises
    ------
    ValueError
        If the name is none of the three.
    ImportError
        If the library is missing or, for CuPy, no device answers.
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
                "backend cupy: CuPy is not installed; pip install 'refspec[cupy]'"
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
    if not (x.flags.c_contiguous and x.flags.writeable):  # torch takes no other
        x = x.copy()
    return xp.asarray(x, device=device(like))


def device(x: Array) -> Any:
    """Return the device that holds `x`."""
    return array_api_compat.device(x)


def scalar(x: Array) -> float:
    """Bring one number to the host: the only synchronisation kernels make."""
    return float(to_host(x).reshape(()))


def pivoted_cholesky(block: Array, tolerance: float) -> tuple[Array, Array]:
    """Choose the independent rows of a small Gram matrix (host LAPACK `pstrf`).

    The array API has no pivoted Cholesky, so the block, a few hundred rows, goes
    to the host and its pivots and factor come back. Returns the pivots (r,), in
    order, and the lower triangular factor (r, r) of block[pivots][:, pivots].
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
