"""An export in parts: a shard is some of its samples, read where it is needed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refspec import checks, curvature
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment
from refspec.export import snapshots


@dataclass(frozen=True)
class Part:
    """Samples i to j of a `.zarr` export, in its order, and their Fisher information.

    A function of no arguments that pickle takes: a path and a few names.
    """

    path: str
    samples: tuple[int, int]
    layers: tuple[str, ...] | None = None

    def __call__(self) -> SecondMoment:
        """Read the samples and return the Fisher information of their gradients."""
        return curvature.fisher(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Read the samples."""
        return snapshots.load(self.path, layers=self.layers, samples=self.samples)


def parts_of(
    path: str | os.PathLike[str], count: int, layers: Sequence[str] | None = None
) -> tuple[list[Part], list[float]]:
    """Cut an export into parts for `joined`; return them and their shares.

    Parameters
    ----------
    path : path of a `.zarr` folder
        All workers must see it under this path, made absolute. It is read once, block
        by block, to be compared with its digest.
    count : int
        How many parts; no more than there are samples.
    layers : sequence of str, optional
        Names of some layers; all by default.

    Returns
    -------
    list of Part, list of float: their shares
        Parts without weight are left out.

    Raises
    ------
    ExportError
        If the file is no export, was altered, or cannot be read in part.
    ValueError
        If count is not in 1..N.

    Notes
    -----
    Theory: theory/curvature.md#C9.

    Examples
    --------
    >>> import refspec
    >>> import tempfile
    >>> snapshot = refspec.datasets.digits_mlp()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = refspec.save(snapshot, folder + "/run.zarr")
    ...     parts, shares = parts_of(path, 4, ["fc3"])
    ...     whole = refspec.joined(parts, shares=shares)
    ...     found = refspec.spectrum(whole, top=3)
    >>> true = refspec.spectrum(refspec.fisher(snapshot, ["fc3"]), top=3)
    >>> gap = abs(found.values - true.values).max()
    >>> bool(gap <= found.radius + true.radius)
    True
    """
    weights = snapshots.weights(path)
    N = len(weights)
    if not 1 <= checks.expect_size("count", count) <= N:
        raise ValueError(
            f"count must lie in 1..N = 1..{N}, got {count}; a part has one sample or "
            "more"
        )
    if layers is not None:
        names = list(snapshots.sizes(path)[2])
        layers = tuple(checks.expect_names("layers", layers, names))
    ends = [N * k // count for k in range(count + 1)]
    found = [
        (Part(os.path.abspath(path), (i, j), layers), float(np.sum(weights[i:j])))
        for i, j in itertools.pairwise(ends)
    ]
    found = [(part, share) for part, share in found if share > 0]
    shares = np.asarray([share for _, share in found])
    return [part for part, _ in found], (shares / np.sum(shares)).tolist()
