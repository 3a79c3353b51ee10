"""Write large.md: torchvision's networks by differentiation; about two minutes each.

python tests/frameworks/large_table.py > tests/frameworks/large.md
"""

import pathlib
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from frameworks.comparisons import compare_large
from support.torch_networks import published

HEAD = """# Torchvision's networks by differentiation

As in moments.md, of all parameters: two images of 64 x 64, three classes, running
averages and weights of normalisations drawn at random; G V and H V in three directions
V, as distance / bound, both relative to the norm.

| network | parameters | Fisher | Hessian |
|---|---|---|---|"""


def main(names=None):
    """Print the page; return whether something is wrong."""
    warnings.simplefilter("ignore")
    print(HEAD, flush=True)
    wrong = False
    for name in published():
        if names is None or name in names:
            P, *pairs = compare_large(name)
            wrong |= not all(off <= bound for off, bound in pairs)
            shown = (f"{off:.0e} / {bound:.0e}" for off, bound in pairs)
            print("|", " | ".join([name, f"{P:,}", *shown]), "|", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
