"""The law of a sum of Wisharts as a table: exact at its points, no quadrature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refspec.random_matrix.free import edges
from refspec.random_matrix.free import law as free_law
from refspec.random_matrix.free.law import FreeLaw
from refspec.random_matrix.tables import Band, LawTable, between

#: Points in each band.
NODES = 1000


def tabulate(
    law: FreeLaw, signals: Sequence[float] = (), *, ends: np.ndarray | None = None
) -> LawTable:
    """Tabulate the law, and what signals at v_k add; `ends` of the support, if known.

    Linear interpolation moves a point by at most (pi / NODES)^2 / 8 of a band's half
    width in the bulk. Theory: theory/random_matrix.md#R3, #R4, #R5, #R8
    """
    ends = edges.support(law) if ends is None else ends
    corners = free_law.location(law, ends)
    scales = np.where(ends == 0, 0.0, edges.edge_scale(law, ends))
    # cosines of equal angles: square-root edges become smooth in the angle
    theta = np.linspace(0, np.pi, NODES)
    x, F, density, added, bands = [], [], [], [], []
    for v, corner, s in zip(ends, corners, scales, strict=True):
        middle, half = (v[0] + v[1]) / 2, (v[1] - v[0]) / 2
        u = np.clip(middle - half * np.cos(theta), v[0], v[1])
        points = free_law.curve(law, u)
        points[[0, -1]] = v  # edges, free of the rounding of y
        x.append(np.real(free_law.location(law, points)))
        F.append(free_law.cumulative(law, points))
        squared = np.where(points == 0, np.inf, np.abs(points) ** 2)
        density.append(points.imag / squared / np.pi)
        turned = np.angle(points[:, None] - signals) - np.angle(points)[:, None]
        bent = -np.sum(turned, axis=1) / np.pi
        added.append(between(bent, round(bent[0]), round(bent[-1])))
        mass = float(F[-1][-1] - F[-1][0])
        left, right = map(float, corner)
        bands.append(Band(left, right, mass, float(s[0]), float(s[1])))
    return LawTable(
        tuple(bands),
        law.atom,
        np.maximum.accumulate(np.concatenate(x)),
        np.clip(np.maximum.accumulate(np.concatenate(F)), 0, 1),
        np.concatenate(density),
        np.concatenate(added),
    )
