"""Lanczos against all eigenvalues: `make seeds` writes seeds.md, ten minutes.

Of the Fisher information of every embedded network: whether each of its largest
eigenvalues, of the whole and of every knock-out, lies within its radius of the exact
one, and in how many of 1,000 seeds all counts of a density lie inside its band. It
fails where an interval does not hold, or a band in less than 999 of 1,000 seeds.

    python tests/benchmarks/seeds.py [--seeds 1000] [NETWORK ...] > seeds.md
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import refspec
from refspec import datasets

TOP, PROBES, STEPS = 20, 2, 8
PROMISED = 0.999


def above(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many values, descending, lie above each threshold."""
    return np.searchsorted(-values, -thresholds, side="left")


def inside(found: refspec.Density, values: np.ndarray, radius: float) -> bool:
    """Whether all counts of a band are those of exact values known to a radius."""
    t = found.thresholds
    kept = t > 2 * radius  # below, the exact values are not known either
    least, most = above(values, t + radius), above(values, t - radius)
    return bool(np.all((found.lower <= most)[kept] & (least <= found.upper)[kept]))


def row(name: str, seeds: int) -> tuple[list[str], bool]:
    """Return a network's line, and whether what is promised holds."""
    moment = refspec.fisher(getattr(datasets, name)())
    whole = refspec.attribute(moment)
    few = refspec.attribute(moment, top=TOP)
    radius, held, worst = whole.radius + few.radius, 0, 0.0
    pairs = [(whole.spectrum.values, few.spectrum.values)]
    pairs += [(whole.knockouts[n], few.knockouts[n]) for n in whole.knockouts]
    pairs += [(whole.levels[n], few.levels[n]) for n in whole.levels]
    total = 0
    for exact, found in pairs:
        k = min(TOP, len(found))
        off = np.abs(np.pad(exact, (0, k))[:k] - found[:k])
        held, total = held + int(np.sum(off <= radius)), total + k
        worst = max(worst, float(np.max(off, initial=0.0)) / radius)
    exact = {"the whole": whole.spectrum.values} | whole.knockouts
    within = dict.fromkeys(exact, 0)
    held_once = refspec.with_gram(moment)
    for seed in range(seeds):
        several = refspec.densities(held_once, probes=PROBES, steps=STEPS, seed=seed)
        for what, found in several.items():
            within[what] += inside(found, exact[what], whole.radius)
    cells = [name, f"{held} of {total}", f"{worst:.1e}"]
    cells += [f"{x} of {seeds}" for x in within.values()]
    good = held == total and min(within.values()) >= PROMISED * seeds
    return cells, good


def main() -> None:
    """Print the page."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("names", nargs="*", default=datasets.names())
    given.add_argument("--seeds", type=int, default=1000)
    options = given.parse_args()
    print("# Lanczos against all eigenvalues\n")
    print(
        f"Written by `make seeds` on {datetime.date.today()}: refspec "
        f"{refspec.__version__}, NumPy {np.__version__}.\n"
        f"The {TOP} largest eigenvalues of the Fisher information, of every knock-out "
        "and every\nlevel, by products, beside those of the whole factorisation: how "
        "many lie within both\nradii, and the largest distance in units of them. Then "
        f"densities from {PROBES} vectors and\n{STEPS} steps: for how many seeds the "
        "counts at all 256 thresholds lie inside the band, of the\nwhole and without "
        f"each level. Promised: all, and {PROMISED:.1%}.\n"
    )
    heads = ["network", "values held", "worst", "the whole", "- diagonal", "- class"]
    heads += ["- cross class", "- within"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    every = True
    for name in options.names:
        cells, good = row(name, options.seeds)
        print(f"| {' | '.join(cells)} |", flush=True)
        every = every and good
    if not every:
        sys.exit("an interval does not hold")


if __name__ == "__main__":
    main()
