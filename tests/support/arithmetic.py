"""A machine of another precision than the one that the theory assumes."""

import numpy as np


def in_single(true):
    """Return a LAPACK function made in float32, its results given in float64."""

    def wrong(A):
        found = true(np.asarray(A, dtype=np.float32))
        if isinstance(found, tuple):
            return type(found)(*(np.asarray(x, dtype=np.float64) for x in found))
        return np.asarray(found, dtype=np.float64)

    return wrong


def coarse(x, size):
    """Return numbers whose products of matrices and sums come out times 1 + size."""

    class Coarse(np.ndarray):
        def __matmul__(self, other):
            product = np.asarray(self) @ np.asarray(other)
            return product if self.dtype == object else (1 + size) * product

        def sum(self, *args, **options):
            return (1 + size) * np.asarray(self).sum(*args, **options)

    return x.view(Coarse)
