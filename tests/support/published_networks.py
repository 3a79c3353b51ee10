"""The networks that published curvature libraries are tested with, by suite and name.

Read from their tests and built anew, those of each suite in a module of their own; at
most 8 samples.
"""

from support.backpack_networks import BACKPACK
from support.building_networks import Published
from support.curvlinops_networks import CURVLINOPS
from support.eigenthings_networks import EIGENTHINGS
from support.nngeometry_networks import NNGEOMETRY
from support.vivit_networks import VIVIT

SUITES = {
    "curvlinops": CURVLINOPS,
    "nngeometry": NNGEOMETRY,
    "vivit": VIVIT,
    "hessian-eigenthings": EIGENTHINGS,
    "backpack": BACKPACK,
}
#: By suite and name.
PUBLISHED = {
    f"{suite}: {name}": Published(suite, *given)
    for suite, cases in SUITES.items()
    for name, given in cases.items()
}
