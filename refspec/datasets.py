"""Exports of really trained networks that come with refspec."""

from __future__ import annotations

from importlib import resources

from refspec.backend import Namespace
from refspec.classes import Snapshot
from refspec.export import load

__all__ = ["digits_mlp"]


def digits_mlp(*, xp: Namespace | None = None) -> Snapshot:
    """Return a PyTorch network fitted to scikit-learn's digits, with its model section.

    Returns
    -------
    Snapshot
        N = 400 samples of C = 10 unequal classes (31 to 49), three layers of sizes
        64-32-16-10 (relu), float32 numbers read into float64. The network was trained
        on all 1797 digits to 100 % training accuracy, far past zero error, by
        ``tests/networks/digits_mlp.py``.

    Examples
    --------
    >>> snapshot = digits_mlp()
    >>> snapshot.probabilities.shape, [x.parameters for x in snapshot.layers]
    ((400, 10), [2080, 528, 170])
    >>> bool((snapshot.probabilities.argmax(axis=1) == snapshot.labels).all())
    True
    """
    file = resources.files("refspec.data") / "digits_mlp.npz"
    with resources.as_file(file) as path:
        return load(path, xp=xp)
