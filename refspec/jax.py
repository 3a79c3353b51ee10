"""From a JAX function to its spectrum: one call, and those that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from refspec import attribution
from refspec.attribution import Attribution
from refspec.exporters.jax import export as export
from refspec.exporters.jax import hessian as hessian
from refspec.exporters.jax import moment as moment
from refspec.plans import plan


def attribute(
    function: Callable[[Any, Any], Any],
    parameters: Any,
    loader: Iterable[Any],
    chosen: Any = None,
    *,
    top: int | None = None,
    certify: bool = False,
    **options: Any,
) -> Attribution:
    """Attribute the Fisher information of any classifier to its levels.

    Parameters
    ----------
    function, parameters, loader
        Logits as a function of (parameters, inputs); its parameters; batches.
    chosen : sequence of str or callable, optional
        Some leaves, or what holds them, by name; all real ones by default.
    top, certify
        See `refspec.attribute`.
    **options
        Those of `moment`, which says what it covers.

    Returns
    -------
    Attribution
        A notebook shows it as a table; ``.plot()`` draws it.

    Raises
    ------
    TypeError, ValueError
        As `moment` and `refspec.attribute`, or if it does not fit into memory.

    Notes
    -----
    Papyan (2020). ``refspec.attribute(moment(function, parameters, loader))``: keep the
    moment where more than one thing is asked of it.

    Examples
    --------
    >>> import numpy as np
    >>> batch = np.eye(3), [0, 1, 1]
    >>> result = attribute(lambda W, x: x @ W["W"], {"W": np.ones((3, 2))}, [batch])
    >>> sorted(result.traces)[:2]
    ['between_class', 'between_cross_class']
    """
    found = moment(function, parameters, loader, chosen, **options)
    plan(found, top=top, certify=certify).expect_room()
    return attribution.attribute(found, top=top, certify=certify)
