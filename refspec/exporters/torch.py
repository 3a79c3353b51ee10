"""Export a PyTorch classifier: features and errors of its linear and conv modules."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from refspec import checks
from refspec.classes import Snapshot

try:
    import torch
    from torch import nn

    from refspec.exporters import checking, delivery, feeding
    from refspec.exporters.reading import Reading
    from refspec.exporters.torch_layers import choose, statement
    from refspec.exporters.torch_moment import hessian as hessian
    from refspec.exporters.torch_moment import moment as moment
    from refspec.exporters.torch_network import unwrapped
    from refspec.exporters.torch_ranks import across_ranks as across_ranks
    from refspec.exporters.torch_rows import (
        Exporter,
        converted,
        evaluating,
        expect_samplewise,
        watching,
    )
except ImportError as error:
    raise ImportError(
        "the PyTorch exporter needs torch and rich, which are not installed; "
        "pip install 'refspec[torch]'"
    ) from error


def export(
    model: nn.Module,
    loader: Iterable[Any],
    path: str | os.PathLike[str] | None,
    layers: Sequence[str] | None = None,
    *,
    exclude: Sequence[str] = (),
    classes: Sequence[int] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    ignore_index: int | None = None,
    dtype: torch.dtype | None = None,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    recomputed: bool = False,
    progress: bool = True,
) -> Path | Snapshot:
    """Write an export of a classifier over the samples of a loader.

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits (batch, C), or an output that holds them as ``logits``; any graph.
        Of a single logit, and of tokens or pixels, see `refspec.exporters`.
        DataParallel and torch.compile are taken off.
    layers, exclude : sequence of str, optional
        Names of modules (as in ``model.named_modules()``), each an ungrouped
        Linear, Conv1d, Conv2d or Conv3d; all of them by default. What is left out is
        stated, see `refspec.coverage`.
    dtype : torch.float32 or torch.float64, optional
        Run a copy of the model in this precision; by default the model as it is.
        Automatic casting is off.
    loader
        See `refspec.exporters`. Inputs may be a mapping (named arguments of the model)
        or a tuple (its arguments).
    path, classes, class_weights, sample_weights, ignore_index, class_names
        See `refspec.exporters`.
    provenance, recomputed, progress
        See `refspec.exporters`.

    Returns
    -------
    Path or Snapshot
        The path, or the Snapshot if `path` is None.

    Raises
    ------
    TypeError
        If model, loader or an option is of another type.
    ValueError
        If a module cannot be exported (grouped, its weight shared or made of other
        parameters, no part of the forward pass; it is named), its rows are not torch's
        gradient, samples are mixed, or the batches do not fit.
    ExportError
        If the path cannot be written.

    Notes
    -----
    The seed of pass c' is ``p - e_c'`` with entry c' computed as minus the sum of the
    other probabilities, in float64 from the logits, so that the small errors of a
    fitted network keep their relative accuracy. The model runs in eval mode and is
    given back as it was. A model of operations known to `refspec.models` is stored
    with it, weights and inputs, if torch.fx can trace it and the operations give its
    logits; if not, the manifest says why (``without_network``). Cost: one forward and C
    backward passes a batch.

    Eight samples of the first batch, and of a later one drawn at random (of a stream
    without a length, the second), are checked: for a random c' and random r_n, four of
    them not 0 and no two alike, sum_n r_n errors_n (x) features_n must be the gradient
    of sum_n r_n loss_(n,c') that torch gives, within rounding, and logits of some may
    not move when the others are replaced. On small layers that shows faults of 1e-5 of
    the gradient in float32, of 1e-13 in float64. What is wrong in other batches alone
    is not seen.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> batch = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    >>> [layer.errors.shape for layer in export(model, [batch], None).layers]
    [(5, 2, 1, 4), (5, 2, 1, 2)]
    """
    checks.expect_type("model", model, nn.Module, "give a torch.nn.Module")
    if not any(dtype is x for x in (None, torch.float32, torch.float64)):
        raise ValueError(
            f"dtype must be torch.float32, torch.float64 or None, got {dtype}; "
            "use one of these"
        )
    how = Reading(class_names, classes, class_weights, sample_weights, ignore_index)
    model = unwrapped(model)
    expect_samplewise(model)
    chosen = choose(model, layers, exclude, halves=dtype is not None)
    if dtype is not None:
        model = converted(model, dtype)
        chosen = {name: model.get_submodule(name) for name in chosen}
    first, batches, total = feeding.open_loader(loader)
    checked = checking.checked_steps(total, np.random.default_rng(0))
    exporter = Exporter(model, chosen, how, checked)
    with ExitStack() as stack:
        stack.enter_context(evaluating(model, chosen))
        section = exporter.section = exporter.described(first[0])
        stack.enter_context(watching(chosen, exporter.seen))
        return delivery.deliver(
            exporter.rows(batches),
            path,
            section.parameters,
            framework=("torch", str(torch.__version__)),
            architecture=repr(model),
            layers=list(chosen),
            operations=section.operations,
            without=section.reason,
            **statement(model, chosen),
            class_names=class_names,
            provenance=provenance,
            total=total,
            recomputed=recomputed,
            progress=progress,
            how=how,
        )
