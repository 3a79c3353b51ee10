"""Every formal statement as an object with an executable check."""

from refspec.theorems.catalogue import all_theorems as all_theorems
from refspec.theorems.catalogue import asked as asked
from refspec.theorems.catalogue import find as find
from refspec.theorems.registry import Theorem as Theorem
from refspec.theorems.registry import Verdict as Verdict
from refspec.theorems.registry import worst as worst
from refspec.theorems.study import Study as Study

__all__ = ["Study", "Theorem", "Verdict", "all_theorems", "asked", "find", "worst"]
