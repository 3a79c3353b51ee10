"""``python -m refspec.theorems``: print theory/README.md."""

import sys

from refspec.theorems.catalogue import markdown

if __name__ == "__main__":
    sys.stdout.write(markdown())
