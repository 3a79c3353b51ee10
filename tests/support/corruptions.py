"""Seven gross corruptions of an export, and which statements of `verify` see them.

``PYTHONPATH=tests python -m support.corruptions > theory/corruptions.md`` makes the
page that the test compares with what is found.
"""

import sys
from dataclasses import replace

import numpy as np

from refspec import datasets
from refspec.theorems import asked
from refspec.verify import verify

#: The others are inequalities between spectra: true of whatever numbers are put in.
PAGES = ("hessian.md", "levels.md", "weights.md")

HEAD = """# Corruptions: what `verify` sees

An export can be wrong in ways that leave every shape, every sum and every range as it
was. Each row is one such corruption of all layers, each column an embedded network; a
cell holds the statements of `refspec verify` that fail. The intact exports fail none.
The inequalities between spectra (A1 to A7, C6) are not listed: they are true of any
numbers, right or wrong. This page is made by `tests/support/corruptions.py` and held by
`tests/theorems/test_corruptions.py`.

Statements that need the network compare what is stored with what it gives: H10 every
number, H1, H6 and H9 the second derivatives. The score identity (L2, L3, L4) and the
errors at the logits (L8) need no network: they tie errors to probabilities. D1 ties
features, errors and labels to the weights of a network at its minimum, D3 labels and
probabilities to the stated loss. The last column is an export without its network:
there nothing ties the features to anything, and what permutes or replaces them goes
unseen, as do errors that are doubled. Keep the network in the export, or have the
exporter check itself while it still has one.

"""


def corruptions(snapshot):
    """Yield what was done, and the snapshot after it: the same for the same network."""
    rng, layers = np.random.default_rng(0), snapshot.layers
    order = rng.permutation(len(snapshot.labels))

    def noise(x):
        return np.std(x) * rng.standard_normal(x.shape)

    def made(of, change):
        changed = [replace(x, **{of: change(getattr(x, of))}) for x in layers]
        return replace(snapshot, layers=tuple(changed))

    yield "errors are noise", made("errors", noise)
    yield "features are noise", made("features", noise)
    yield "errors permuted over samples", made("errors", lambda x: x[order])
    yield "features permuted over samples", made("features", lambda x: x[order])
    yield "cross classes rolled", made("errors", lambda x: np.roll(x, 1, axis=1))
    yield "errors doubled", made("errors", lambda x: 2 * x)
    p = snapshot.probabilities
    yield (
        "probabilities uniform",
        replace(snapshot, probabilities=np.full_like(p, 1 / p.shape[1])),
    )


def failing(snapshot):
    """Return the ids of the statements that fail."""
    theorems = [x for x in asked("data") if x.page in PAGES]
    found = verify(snapshot, theorems=theorems)
    return [x.id for x in found if x.status == "fails"]


def subjects():
    """Return every embedded network, and one without its network."""
    found = {name: getattr(datasets, name) for name in datasets.names()}
    found["wine_sklearn alone"] = lambda: replace(datasets.wine_sklearn(), model=None)
    return found


def column(snapshot):
    """Return what sees each corruption, as the page has it."""
    return {x: ", ".join(failing(wrong)) for x, wrong in corruptions(snapshot)}


def markdown(columns):
    """Return the page, of the column of every subject."""
    rows = next(iter(columns.values()))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [found[row] or "-" for found in columns.values()]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown({n: column(make()) for n, make in subjects().items()}))
