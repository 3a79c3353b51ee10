"""Where the scalars of KFAC are, by the table of `refspec.kronecker.conventions`."""

import numpy as np
import pytest

from refspec.kronecker import kfac
from refspec.kronecker.conventions import placement
from support.snapshots import sampled, slack

#: left, right and block for N = 5 samples, T = 3 positions, k = 4 columns.
SCALES = {
    "refspec": (1, 1, 1),
    "curvlinops": (1, 1, 1),
    "nngeometry": (1 / 6, 6, 1),
    "backpack": (1, 3, 1),
    "kfac_jax": (1 / 3, 1, 3),
    "kfac_jax_seq": (1, 3, 1 / 3),
}


@pytest.mark.parametrize("name", sorted(SCALES))
def test_scalars_are_those_of_the_table(name):
    made = placement(name, "expand", "exact", N=5, T=3, columns=4)
    assert (made.left, made.right, made.block) == SCALES[name]
    errors = "reduce" if name == "backpack" else "expand"
    assert (made.errors, made.features) == (errors, "expand")
    again = placement(name, "expand", "empirical", N=5, T=3, columns=4)
    more = 5 if name.startswith("kfac_jax") else 1
    assert (again.left * more, again.right) == (made.left, made.right)


@pytest.mark.parametrize(("fisher", "k"), [("exact", 2), ("monte_carlo", 5)])
def test_nngeometry_counts_the_columns_it_propagates(fisher, k):
    """C - 1 of the exact Fisher's C, all of Monte-Carlo's."""
    s = sampled(0, sides=[(3, 2)])
    plain, other = (
        kfac(
            s,
            "fc",
            fisher=fisher,
            samples=5,
            rng=np.random.default_rng(0),
            convention=name,
        )
        for name in ("refspec", "nngeometry")
    )
    assert np.linalg.norm(other.right - k**0.5 * plain.right) <= slack(s) * k**0.5
    assert np.linalg.norm(k**0.5 * other.left - plain.left) <= slack(s)
