"""How time and memory grow: `make growth` writes growth.md and its picture.

One size at a time, N, C, P (by the width of a layer) or T, is multiplied by 8 in steps
of 2, the others stay, and what each way takes is fitted by a straight line in
logarithms. Time is that of the products and bytes that are counted while the work is
done, the same on every machine, beside seconds of the processor; memory is the peak
above what there was before, in a process of its own.

    python tests/benchmarks/growth.py [WAY ...] > growth.md
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))
import refspec
from refspec import costs
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.plans import plan

#: The way that is taken at these sizes N, C, T, b (a layer's outputs), a (its inputs).
WAYS: dict[str, tuple[dict[str, int], str, dict[str, Any]]] = {
    "pivoted rows": ({"N": 40, "C": 4, "T": 1, "b": 16, "a": 400}, "attribute", {}),
    "parameters": ({"N": 800, "C": 6, "T": 1, "b": 8, "a": 12}, "attribute", {}),
    "products with X and X'": (
        {"N": 400, "C": 6, "T": 4, "b": 20, "a": 40},
        "spectrum",
        {"top": 8},
    ),
    "products with the Gram matrix": (
        {"N": 60, "C": 4, "T": 1, "b": 30, "a": 100},
        "spectrum",
        {"top": 8},
    ),
    "quadrature from products": (
        {"N": 400, "C": 6, "T": 4, "b": 20, "a": 40},
        "density",
        {},
    ),
}
STEPS = (1, 2, 4, 8)
AXES = {"N": "N", "C": "C", "P": "a", "T": "T"}
SHOWN = ("products", "seconds", "bytes")


def moment(N: int, C: int, T: int, b: int, a: int) -> SecondMoment:
    """Return a moment of random errors and features of one layer."""
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((N, C, T, b))
    features = rng.standard_normal((N, T, a))
    ends = tuple(N * c // C for c in range(C + 1))
    rows = Factors((Factor(errors, features),))
    return SecondMoment(rows, np.full((N, C), 1 / (N * C)), ends)


def peak() -> int:
    """Return the largest resident memory since it was last cleared, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) * 1024


def cell(way: str, sizes: dict[str, int]) -> dict[str, Any]:
    """Do the work of a way at some sizes, here; return what it took."""
    _, what, how = WAYS[way]
    np.linalg.eigh(np.eye(200))  # threads and work space are there
    made, total = moment(**sizes), [costs.Cost()]
    taken = plan(made, what=what, **how).parts[0].way
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, used = peak(), time.process_time()
    with costs.heard(lambda x: total.append(total[-1] + x)):
        getattr(refspec, what)(made, **how)
    return {
        "way": taken,
        "seconds": time.process_time() - used,
        "products": total[-1].products,
        "bytes": peak() - before,
    }


def apart(way: str, sizes: dict[str, int]) -> dict[str, Any]:
    """Do the same in a process of its own, where what is freed goes back."""
    call = [sys.executable, "-W", "ignore", str(HERE), "--cell", way, json.dumps(sizes)]
    where = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run(call, capture_output=True, text=True, check=True, env=where)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def slope(x: list[float], y: list[float]) -> float:
    """Return the slope of log y over log x, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def draw(found: dict[tuple[str, str], list[dict[str, Any]]], path: Path) -> None:
    """Draw products and bytes of every way over the size that grows."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    from refspec.plots import figure

    ways = list(dict.fromkeys(way for way, _ in found))
    made, axes = figure(2, len(ways), size=(3.2 * len(ways), 6))
    for (k, key), (column, way) in product(
        enumerate(("products", "bytes")), enumerate(ways)
    ):
        ax = axes[k * len(ways) + column]
        for axis in AXES:
            y = [x[key] for x in found[way, axis]]
            ax.loglog(STEPS, np.divide(y, y[0]), marker="o", ms=3, label=axis)
        ax.set(title=way if k == 0 else "", ylabel=f"{key}, of the first")
        ax.set(xlabel="size, times" if k else "")
        ax.set_xticks(STEPS, [str(x) for x in STEPS])
        # the numbers in between would lie on one another
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        for each in (ax.xaxis, ax.yaxis):
            each.set_minor_formatter(NullFormatter())
        ax.legend(frameon=False, fontsize=7)
    made.savefig(path, dpi=110)


def main() -> None:
    """Print the page and draw the picture."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("ways", nargs="*", default=list(WAYS))
    given.add_argument("--cell", nargs=2)
    options = given.parse_args()
    if options.cell:
        print(json.dumps(cell(options.cell[0], json.loads(options.cell[1]))))
        return
    print("# How time and memory grow\n")
    print(
        f"Written by `make growth` on {datetime.date.today()}: refspec "
        f"{refspec.__version__}, NumPy {np.__version__}, one thread.\n"
        "One size is multiplied by 1, 2, 4, 8; the slope is that of the logarithms. "
        "Products are\nmultiplications counted while the work is done; seconds are of "
        "the processor; bytes are the\npeak above what there was.\n\n"
        "![Products and bytes over each size](growth.png)\n"
    )
    heads = ["way", "from", "size", *(f"slope of {x}" for x in SHOWN), "at the largest"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for way in options.ways:
        start = WAYS[way][0]
        for name, axis in AXES.items():
            every = [apart(way, start | {axis: start[axis] * k}) for k in STEPS]
            found[way, name] = every
            others = {x["way"] for x in every} - {way}
            slopes = [f"{slope(list(STEPS), [x[y] for x in every]):.2f}" for y in SHOWN]
            last = every[-1]
            most = f"{last['seconds']:.2g} s, {last['bytes'] / 1e6:.3g} MB"
            first = (
                ", ".join(f"{k} = {v}" for k, v in start.items()) if name == "N" else ""
            )
            note = f" ({', '.join(others)} in part)" if others else ""
            line = (way + note, first, name, *slopes, most)
            print(f"| {' | '.join(line)} |", flush=True)
    draw(found, HERE.with_name("growth.png"))


if __name__ == "__main__":
    main()
