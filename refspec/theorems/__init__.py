"""Every formal statement as an object with an executable check."""

from refspec.theorems.registry import Theorem as Theorem
from refspec.theorems.registry import Verdict as Verdict
from refspec.theorems.study import Study as Study

__all__ = ["Study", "Theorem", "Verdict"]
