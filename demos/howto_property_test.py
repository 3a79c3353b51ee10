"""Property-test your own decomposition: Hypothesis finds the class that breaks it.

A between-class and within-class split of gradients is right on the data one thinks of.
Snapshots drawn by refspec.strategies, with classes of one sample, weights of 0 and
probabilities that underflow, find the division that is not. Needs refspec[testing].
"""

# %% Your decomposition
import numpy as np
from hypothesis import HealthCheck, given, settings

from refspec import strategies, structure
from refspec.curvature import errors
from refspec.testing import assert_levels


def my_levels(snapshot, name, *, careful=True):
    """Split the errors' second moment into two of the paper's levels."""
    p, s = snapshot.probabilities, snapshot.sample_weights
    delta = snapshot.layer(name).errors.reshape(*p.shape, -1)
    w = s[:, None] * p
    within, between = 0.0, 0.0
    for c in range(p.shape[1]):
        mine = slice(*snapshot.offsets[c : c + 2])
        mass, sums = w[mine].sum(axis=0), np.einsum("nk,nkd->kd", w[mine], delta[mine])
        # a cell without mass has no mean
        safe = np.where(mass > 0, mass, 1.0) if careful else mass
        mean = sums / safe[:, None]
        off = delta[mine] - mean
        within = within + np.einsum("nk,nkd,nke->de", w[mine], off, off)
        others = np.arange(len(mass)) != c
        total = mass[others].sum()
        center = sums[others].sum(axis=0) / (total if total > 0 or not careful else 1.0)
        between = between + total * np.outer(center, center)
    return {"within_cross_class": within, "between_class": between}


# %% The property: the levels are those of refspec, whatever the data
few = settings(max_examples=50, deadline=None, derandomize=True, database=None)
quiet = settings(few, suppress_health_check=list(HealthCheck))
snapshots = strategies.snapshots(scored=None, max_layers=1)


def agrees(snapshot, *, careful):
    """Check both levels, where there is anything to compare."""
    if errors(snapshot, "layer1").trace() > 0:
        with np.errstate(all="ignore"):
            mine = my_levels(snapshot, "layer1", careful=careful)
        assert_levels(mine, snapshot, of="errors", layer="layer1")


@quiet
@given(snapshots)
def test_careful(snapshot):
    """Means of empty cells are left out."""
    agrees(snapshot, careful=True)


test_careful()


# %% Without the guard Hypothesis finds, and shrinks, a cell without mass
found = []


@quiet
@given(snapshots)
def test_careless(snapshot):
    """Means of empty cells are 0 / 0."""
    try:
        agrees(snapshot, careful=False)
    except (AssertionError, ValueError) as error:
        found.append((snapshot, error))
        raise


try:
    test_careless()
except (AssertionError, ValueError) as error:
    print(f"{type(error).__name__}: {error}")

# %% The smallest counterexample has an empty cell
smallest, _ = found[-1]
norms = structure.cell_norms(errors(smallest, "layer1"))
print(smallest.probabilities, smallest.sample_weights, norms)
assert norms.min() == 0
