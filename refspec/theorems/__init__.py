"""Every formal statement as an object with an executable check.

A statement of your own is a generator of comparisons in a module of yours, declared by
its kind (`identity`, `inequality`, `statistical`, `asymptotic`, `observation`):

>>> @inequality("Mine", "tr F <= 1 for every network")
... def U1(study):
...     trace = study.fisher.trace()
...     yield trace, 1.0, trace, "all layers"
>>> U1.id, U1.kind
('U1', 'inequality')

`of_module` gives those of a module, ``refspec verify --theorems my_module.py`` runs
them.
"""

from refspec.theorems.catalogue import all_theorems as all_theorems
from refspec.theorems.catalogue import asked as asked
from refspec.theorems.catalogue import find as find
from refspec.theorems.catalogue import of_module as of_module
from refspec.theorems.registry import Theorem as Theorem
from refspec.theorems.registry import Verdict as Verdict
from refspec.theorems.registry import asymptotic as asymptotic
from refspec.theorems.registry import identity as identity
from refspec.theorems.registry import inequality as inequality
from refspec.theorems.registry import observation as observation
from refspec.theorems.registry import statistical as statistical
from refspec.theorems.registry import worst as worst
from refspec.theorems.study import Study as Study

__all__ = [
    "Study",
    "Theorem",
    "Verdict",
    "all_theorems",
    "asked",
    "asymptotic",
    "find",
    "identity",
    "inequality",
    "observation",
    "of_module",
    "statistical",
    "worst",
]
