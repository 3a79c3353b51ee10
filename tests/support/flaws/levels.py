"""Flaws of theory/levels.md."""

from dataclasses import replace

import numpy as np

from support.flaws import Flaw, after, larger, smaller
from support.snapshots import fitted, typical

PROJECTIONS = "refspec.structure:cell_projections"
BETWEEN = "between_class"


def wide():
    """Layers with more parameters than the ranks of the levels."""
    return typical(a=4, b=5)


def level(name, change):
    """Change one of the projections that make levels of means."""

    def changed(found, size):
        right = found.get(name)  # of features, or of the others
        return {**found, name: lambda x: change(right(x), size)} if right else found

    return after(changed)


def first(rows, size):
    """Enlarge the rows of one cross class."""
    return np.concatenate([(1 + size) * rows[..., :1], rows[..., 1:]], axis=-1)


def more(A, size):
    """Lift all eigenvalues by a part of the trace."""
    return A + size * np.trace(A) * np.eye(len(A))


def one_label(layers=slice(None), samples=slice(None)):
    """Enlarge errors at the first label, of some layers: they have no score."""

    def changed(snapshot, size):
        made = list(snapshot.layers)
        for k in range(len(made))[layers]:
            errors = made[k].errors.copy()
            errors[samples, 0] *= 1 + size
            made[k] = replace(made[k], errors=errors)
        return replace(snapshot, layers=tuple(made))

    return changed


FLAWS = (
    Flaw("L1", "a level too large", PROJECTIONS, level(BETWEEN, larger), typical),
    Flaw("L2", "a trace too small", PROJECTIONS, level(BETWEEN, smaller), typical),
    Flaw("L2", "a rank for errors without scores", "data", one_label(), wide),
    Flaw("L3", "errors without scores", "data", one_label(), typical),
    Flaw("L3", "one layer without scores", "data", one_label(slice(0, 1)), typical),
    Flaw("L3", "a fit without scores", "data", one_label(slice(0, 1)), fitted),
    Flaw("L4", "a fit without scores", "data", one_label(slice(0, 1)), fitted),
    Flaw("L4", "errors without scores", "data", one_label(), typical),
    Flaw(
        "L4", "one label's means", "refspec.structure:cell_rows", after(first), typical
    ),
    Flaw("L5", "a term too large", PROJECTIONS, level(BETWEEN, larger), typical),
    Flaw(
        "L5",
        "weighted means for plain ones",
        "refspec.structure:plain_means",
        lambda *_: lambda moment: moment,
        typical,
    ),
    Flaw(
        "L6",
        "a global mean too large",
        PROJECTIONS,
        level("global_mean", larger),
        typical,
    ),
    Flaw("L6", "class means too small", PROJECTIONS, level(BETWEEN, smaller), typical),
    Flaw("L7", "a class term too large", PROJECTIONS, level(BETWEEN, larger), typical),
    Flaw(
        "L8",
        "a full rank",
        "refspec.curvature:SecondMoment.matrix",
        after(more),
        typical,
    ),
    Flaw("L8", "one error too large", "data", one_label(slice(1, 2), 0), typical),
)
REASONS: dict[str, str] = {}
