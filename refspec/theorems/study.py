"""A snapshot under study: what several checks need, computed once.

A check of a theorem about one layer goes over all of them; quantities that many checks
share (the Fisher information, its eigenbasis, its attribution) are computed when first
asked for and kept.
"""

from __future__ import annotations

from functools import cached_property

from refspec import curvature
from refspec.attribution import Attribution, Eigenbasis, attribute, eigenbasis
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment

__all__ = ["Study"]


class Study:
    """Lazily computed quantities of one snapshot.

    Parameters
    ----------
    snapshot : Snapshot
        N samples, C classes.
    seed : int
        For the probes of randomised checks.

    Examples
    --------
    >>> import refspec
    >>> study = Study(refspec.datasets.digits_mlp())
    >>> study.fisher is study.fisher
    True
    """

    def __init__(self, snapshot: Snapshot, *, seed: int = 0) -> None:
        self.snapshot = snapshot
        self.seed = seed

    @cached_property
    def fisher(self) -> SecondMoment:
        """The Fisher information of all layers."""
        return curvature.fisher(self.snapshot)

    @cached_property
    def basis(self) -> Eigenbasis:
        """Its eigenbasis, with the levels of the means in it."""
        return eigenbasis(self.fisher)

    @cached_property
    def attribution(self) -> Attribution:
        """Its attribution."""
        return attribute(self.basis)
