"""Where the scalars of KFAC are, by the table of `refspec.kronecker.conventions`."""

import pytest

from refspec.kronecker.conventions import placement

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
    assert (made.errors == "reduce") == (name == "backpack")
    again = placement(name, "expand", "empirical", N=5, T=3, columns=4)
    more = 5 if name.startswith("kfac_jax") else 1
    assert (again.left * more, again.right) == (made.left, made.right)
