r"""Where other libraries put the scalars of KFAC: one name for each placement.

KFAC is a product of two means, so a scalar can sit in either factor, and with T > 1
positions libraries disagree about the product too. With refspec's expand factors
:math:`\Delta = \sum_{i,c'} w \sum_t \delta\delta'` and
:math:`H = \sum_i s_i \frac1T \sum_t hh'`, and for losses averaged over the N samples:

=============  ==================================  =========================  ==========
name           errors (left)                       features (right)           settings
=============  ==================================  =========================  ==========
refspec        :math:`\Delta`                      :math:`H`                  both
curvlinops     :math:`\Delta`                      :math:`H`                  both
nngeometry     :math:`\Delta/(T\sqrt k)`           :math:`T\sqrt k\,H`        expand
backpack       :math:`\bar\Delta` (reduce)         :math:`T\,H`               mixed
kfac_jax       :math:`\Delta/T`; block scale T     :math:`H`                  expand
kfac_jax_seq   :math:`\Delta`; block scale 1/T     :math:`T\,H`               expand
=============  ==================================  =========================  ==========

* k is the number of back-propagated columns: C - 1 for the exact Fisher (nngeometry
  uses a triangular root), M for M Monte-Carlo labels. Dense layers see it too.
* backpack sums errors over positions (reduce) but not features (expand), so that for
  convolutions its product is neither setting's; without positions all agree.
* kfac-jax keeps a scale beside the factors: multiply the product of the factors by it.
  ``kfac_jax`` is its convolution block, ``kfac_jax_seq`` its repeated dense block. Its
  empirical Fisher carries one more 1/N, in the errors.
* A loss that is summed instead of averaged multiplies the errors' factor by N.
* A bias is the last column of the features. Libraries that treat biases separately
  (BackPACK, curvlinops by default) have ``right[:-1, :-1]`` for the weight and 1 for
  the bias (T where H carries T).
* curvlinops, nngeometry and BackPACK use row-major weights, errors (x) features;
  kfac-jax stores weights as (inputs, outputs), features (x) errors.
"""

from __future__ import annotations

from dataclasses import dataclass

from refspec import checks

#: The conventions by name.
CONVENTIONS = (
    "refspec",
    "curvlinops",
    "nngeometry",
    "backpack",
    "kfac_jax",
    "kfac_jax_seq",
)
#: How positions that share the weights are treated.
SETTINGS = ("expand", "reduce")


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """How to form the two factors of KFAC in some convention.

    errors, features: treatment of positions, "expand" or "reduce"; left, right: scalars
    of the two factors, on refspec's; block: a scale that the library keeps beside them.
    """

    errors: str
    features: str
    left: float = 1.0
    right: float = 1.0
    block: float = 1.0


def placement(
    convention: str, setting: str, fisher: str, *, N: int, T: int, columns: int
) -> Placement:
    """Look up a convention, for N samples, T positions and k = `columns`.

    Theory: theory/kronecker.md#K8.
    """
    checks.expect_choice("convention", convention, CONVENTIONS)
    expect_setting(setting)
    if convention in ("refspec", "curvlinops"):
        return Placement(setting, setting)
    if setting == "reduce" and T > 1:
        raise ValueError(
            f"convention {convention} has no reduce setting: it must be expand, got "
            f"'reduce' with T = {T} positions; use expand, or convention 'refspec'"
        )
    if convention == "nngeometry":
        scale = T * columns**0.5
        return Placement("expand", "expand", 1 / scale, scale)
    if convention == "backpack":
        return Placement("reduce", "expand", 1.0, T)
    extra = 1 / N if fisher == "empirical" else 1.0
    if convention == "kfac_jax":
        return Placement("expand", "expand", extra / T, 1.0, T)
    return Placement("expand", "expand", extra, T, 1 / T)


def expect_setting(setting: str) -> None:
    """Refuse all but a treatment of positions."""
    checks.expect_choice("setting", setting, SETTINGS)
