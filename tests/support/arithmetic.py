"""A machine of another precision than the one that the theory assumes."""

import numpy as np


class Single(np.ndarray):
    """Numbers whose products of matrices are made in float32."""

    def __matmul__(self, other):
        if self.dtype == object:  # fractions
            return np.asarray(self) @ np.asarray(other)
        left, right = (np.asarray(x, dtype=np.float32) for x in (self, other))
        return np.asarray(left @ right, dtype=np.float64)


def in_single(true):
    """Return a LAPACK function made in float32, its results given in float64."""

    def wrong(A):
        found = true(np.asarray(A, dtype=np.float32))
        if isinstance(found, tuple):
            return type(found)(*(np.asarray(x, dtype=np.float64) for x in found))
        return np.asarray(found, dtype=np.float64)

    return wrong
