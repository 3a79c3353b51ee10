"""Anderson's extrapolation of a fixed-point iteration: where to go from past steps.

Of the last points x and their images F(x) it takes the affine combination whose
residual F(x) - x is smallest, and goes to that combination of the images. It may jump
anywhere: who asks checks that the point is allowed, and takes the image if it is not
(Anderson 1965; Walker and Ni 2011). Host arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: Steps that are remembered.
MEMORY = 8


@dataclass(slots=True, eq=False)
class Steps:
    """The last steps of an iteration: points and their images, flat."""

    tried: list[np.ndarray] = field(default_factory=list)
    mapped: list[np.ndarray] = field(default_factory=list)

    def extrapolated(self, x: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Remember a step and return where to go next."""
        self.tried = [*self.tried[1 - MEMORY :], np.ravel(x)]
        self.mapped = [*self.mapped[1 - MEMORY :], np.ravel(image)]
        f = np.stack(self.mapped)
        if len(f) == 1:
            return image
        residuals = f - np.stack(self.tried)
        moved = np.diff(residuals, axis=0).T
        shares = np.linalg.lstsq(moved, residuals[-1], rcond=None)[0]
        return np.reshape(f[-1] - shares @ np.diff(f, axis=0), image.shape)
