"""From a PyTorch model to its spectrum: one call, and those that it is made of.

>>> import torch
>>> from refspec.torch import attribute
>>> _ = torch.manual_seed(0)
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
>>> batch = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
>>> attribute(model, [batch], top=1).kinds
['outlier']
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from refspec import attribution
from refspec.attribution import Attribution
from refspec.exporters.torch import across_ranks as across_ranks
from refspec.exporters.torch import export as export
from refspec.exporters.torch import hessian as hessian
from refspec.exporters.torch import moment as moment
from refspec.plans import plan


def attribute(
    model: Any,
    loader: Iterable[Any],
    parameters: Any = None,
    *,
    top: int | None = None,
    certify: bool = False,
    **options: Any,
) -> Attribution:
    """Attribute the Fisher information of any classifier to its levels.

    Parameters
    ----------
    model : torch.nn.Module
    loader : iterable of batches
    parameters : sequence of str or callable, optional
        Some parameters, or modules by name; all that are trained by default.
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
    Papyan (2020). ``refspec.attribute(moment(model, loader))``: keep the moment where
    more than one thing is asked of it.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(3, 2)
    >>> batch = torch.eye(3), torch.tensor([0, 1, 1])
    >>> result = attribute(model, [batch])
    >>> sorted(result.traces)[:2]
    ['between_class', 'between_cross_class']
    """
    found = moment(model, loader, parameters, **options)
    plan(found, top=top, certify=certify).expect_room()
    return attribution.attribute(found, top=top, certify=certify)
