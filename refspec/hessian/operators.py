"""The Hessian of a snapshot's network as an operator: products, their error measured.

What rounding can do to a deep network is not proved by sums over paths, whose absolute
values grow with the depth as the Hessian does not. It is measured on random probes, as
that of a network by differentiation is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from refspec import backend, checks, implicit, models
from refspec.backend import Array
from refspec.classes import Snapshot
from refspec.hessian.assembly import chosen, hessian_vector_product, places
from refspec.implicit import HessianOperator, Product


def operator(
    snapshot: Snapshot, layers: str | Sequence[str] | None = None, *, seed: int = 0
) -> HessianOperator:
    """Return the Hessian of the network that a snapshot holds, by its products.

    Parameters
    ----------
    snapshot : Snapshot, with a model section
    layers : str or sequence of str, optional
        Some of the snapshot's layers; all in its order if not given.
    seed : int
        Of the probes.

    Returns
    -------
    HessianOperator
        In float64, the parameters as in `refspec.hessian.of_snapshot`. Its error is
        measured, also where `refspec.hessian.hessian_radius` proves nothing.

    Raises
    ------
    ValueError, TypeError
        If the snapshot holds no network, or layers are no names of its own.

    Notes
    -----
    Theory: theory/hessian.md#H11, #H6. Measured on random probes: how far products are
    from symmetric, and from those in float32. Cost: 48 products.

    Examples
    --------
    >>> import refspec
    >>> H = operator(refspec.datasets.digits_mlp(), "fc3")
    >>> H.shape, H.lost < 1e-12
    ((170, 170), True)
    """
    network, X = models.of_snapshot(snapshot)
    every = [x.name for x in snapshot.layers]
    given = [layers] if isinstance(layers, str) else layers
    names = checks.expect_names("layers", every if layers is None else given, every)
    shapes, xp = chosen(network, names), backend.namespace(X)
    place = places(shapes, names)
    into, back = (backend.from_host(x, X) for x in (np.argsort(place), place))

    def products(dtype: Any) -> tuple[Product, Array]:
        parameters = {k: xp.astype(x, dtype) for k, x in network.parameters.items()}
        same = models.Network(network.operations, parameters)
        x, s = (xp.astype(y, dtype) for y in (X, snapshot.sample_weights))

        def product(V: Array) -> Array:
            V = xp.take(V, into, axis=0)
            how = {"layers": names, "sample_weights": s}
            HV = hessian_vector_product(same, x, snapshot.labels, V, **how)
            return xp.take(HV, back, axis=0)

        return product, x

    wide, like = products(xp.float64)
    blocks = [(name, math.prod(shapes[name])) for name in names]
    other = products(xp.float32)
    return implicit.operator(
        wide, like, len(place), other=other, blocks=blocks, seed=seed
    )
