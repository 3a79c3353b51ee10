"""The tables of networks: rows, numbered sentences, totals; none may be wrong."""

import re
import warnings

import torch

from frameworks.comparisons import of_another_loss
from support.building_networks import CROSS
from support.published_networks import PUBLISHED, SUITES
from support.torch_networks import SMALL

TITLES = {
    "curvlinops": "curvlinops 3.0",
    "nngeometry": "nngeometry 0.4",
    "vivit": "ViViT 1.0",
    "hessian-eigenthings": "hessian-eigenthings",
    "backpack": "BackPACK 1.7",
}


def sections(names=None):
    """Titles with names of networks: kinds of layers, then suite by suite."""
    parts = {"Kinds of layers, and models that are wrapped": list(SMALL)}
    for suite in SUITES:
        mine = [name for name, x in PUBLISHED.items() if x.suite == suite]
        parts[f"Test networks of {TITLES[suite]}"] = mine
    for title, some in parts.items():
        kept = [x for x in some if names is None or x in names]
        if kept:
            yield title, kept


class Page:
    """A page as it is printed."""

    def __init__(self, head):
        warnings.simplefilter("ignore")
        self.sentences, self.right, self.wrong, self.refused = {}, 0, 0, 0
        print(head)

    def table(self, title, columns, names, row):
        """Print a table, a row as soon as it is known."""
        print(f"\n## {title}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for name in names:
            before = self.wrong
            cells = row(name)
            self.refused += cells[0].startswith("refused")
            self.right += not cells[0].startswith("refused") and self.wrong == before
            short = name.partition(": ")[2] or name
            print("|", " | ".join([short, *cells]), "|", flush=True)

    def sentence(self, text):
        """Number a sentence; those that differ in names and numbers only are one."""
        kind = re.sub(r"'[^']*'|\"[^\"]*\"|[-+.e\d]*\d", "#", text)
        number, _ = self.sentences.setdefault(kind, (len(self.sentences) + 1, text))
        return f"[{number}]"

    def pair(self, x):
        """Show a distance with its bound."""
        off, bound = x
        good = off <= bound
        self.wrong += not good
        return f"{'' if good else 'WRONG '}{off:.0e} / {bound:.0e}"

    def end(self):
        """Print sentences and totals; return whether something is wrong."""
        print(
            "\n## Sentences\n\nOf those that differ in names and numbers only, the "
            "first.\n"
        )
        for k, text in self.sentences.values():
            print(f"{k}. {text}")
        print(
            f"\n{self.right + self.refused + self.wrong} networks: {self.right} right, "
            f"{self.refused} refused, {self.wrong} wrong. "
            f"PyTorch {torch.__version__.split('+')[0]}."
        )
        return bool(self.wrong)


def others(page, door, names=None):
    """What is said to targets of other losses."""
    print(
        "\n## Other losses\n\nThe networks above whose suite gives them no cross "
        "entropy are taken for\nclassifiers there. With the suite's own targets they "
        "are refused:\n\n| network | loss | sentence |\n|---|---|---|"
    )
    for name, x in PUBLISHED.items():
        if x.loss != CROSS and not x.slow and (names is None or name in names):
            said = of_another_loss(name)[door]
            print("|", name, "|", x.loss, "|", shown(page, said), "|", flush=True)


def shown(page, said):
    """The number of a sentence; None is what was taken."""
    return "taken" if said is None else page.sentence(said)
