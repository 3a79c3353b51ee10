"""Write the oracle's proof: every mistake at three seeds, and right answers by 1,000s.

python tests/testing/oracle_table.py [right answers, 1000] > tests/testing/oracle.md
"""

import collections
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from support import mistakes, right_answers
from support.operators import names_of


class Told:
    """What an assertion said, as pytest's error keeps it."""

    def __init__(self, value):
        self.value = value


def names(row, seen):
    """Return the names that a mistake gets, or what else came of it."""
    try:
        mistakes.answer(row, seen)
    except AssertionError as error:
        return names_of(Told(error)) or ["none fits"]
    except ValueError as error:
        return [str(error).partition(":")[0]]
    return ["passed"]


def outcome(ask):
    """Say what came of a right answer."""
    try:
        ask()
    except AssertionError:
        return "rejected"
    except ValueError as error:
        if not str(error).startswith("cannot tell"):
            raise
        return "cannot tell"
    return "passed"


def table(title, rows, expected):
    """Print how often each mistake got what was expected, and what else it got."""
    print(f"\n## {title}\n\n| mistake | networks | runs | as expected | otherwise |")
    print("|---|---|---|---|---|")
    for row in rows:
        found = [
            names(row, mistakes.case(kind, seed))
            for kind in row.kinds
            for seed in mistakes.SEEDS
        ]
        other = sorted({", ".join(x) for x in found if x != [expected(row)]})
        good = sum(x == [expected(row)] for x in found)
        kinds = ", ".join(row.kinds)
        said = row.how.get("of", "")
        what = f"{row.told}{f' ({said})' if said else ''}"
        print(f"| {what} | {kinds} | {len(found)} | {good} | {'; '.join(other)} |")


def main(count=1000):
    print(
        "# What the oracle says\n\nWritten by `make oracle`. A mistake is made from a"
    )
    print("right answer, at three seeds each of an MLP, a CNN and a moment by")
    print(
        "differentiation (a residual network with a norm); *as expected*: exactly the"
    )
    print("mistake's name and no other.")
    table("Operators", mistakes.OPERATORS, lambda x: x.told)
    table("Levels and class means", mistakes.LEVELS, lambda x: x.told)
    table("Eigenvalues", mistakes.SPECTRA, lambda x: x.told)
    table("Densities", mistakes.DENSITIES, lambda x: x.told)
    table("Densities on a grid", mistakes.SMOOTHED, lambda x: x.told)
    table(
        "Mistakes that are none of the usual", mistakes.OUTSIDE, lambda _: "none fits"
    )
    found = collections.defaultdict(collections.Counter)
    for seed in range(count):
        what, ask = right_answers.drawn(seed)
        found[what][outcome(ask)] += 1
    print(
        f"\n## {count:,} right answers\n\n| answer | passed | cannot tell | rejected |"
    )
    print("|---|---|---|---|")
    for what, x in sorted(found.items()):
        print(f"| {what} | {x['passed']} | {x['cannot tell']} | {x['rejected']} |")
    total = sum(found.values(), collections.Counter())
    every = (total[x] for x in ("passed", "cannot tell", "rejected"))
    print(f"| all | {' | '.join(map(str, every))} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
