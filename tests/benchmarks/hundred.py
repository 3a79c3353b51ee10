"""A hundred workers and 10^9 parameters, on paper: `make hundred` writes hundred.md.

What goes between client and workers is counted, product by product, on small moments in
shards, and held against the formula; what a worker computes is timed by a product of
matrices here. Both are then put to the large case. Nothing of that size is run.
"""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import refspec
from refspec import ways
from refspec.curvature import SecondMoment
from refspec.factors import Factor, Factors
from refspec.shards import Here, joined

#: Bytes a second between two machines, and multiplications a second of a worker: 10
#: Gbit/s Ethernet and a core of this machine; 400 Gbit/s InfiniBand and half of the 67
#: TFLOP/s of an H100 in float64.
MACHINES = {"a core, 10 Gbit/s": (1.25e9, None), "an H100, 400 Gbit/s": (5e10, 1.7e13)}
LARGE = {"W": 100, "P": 10**9, "N": 100_000, "K": 10, "k": 20}


class Counted(Here):
    """Shards of this process, and the bytes that would go between processes."""

    moved = 0

    def each(self, task: Any, given: Any) -> list[Any]:
        """Do a task on every shard; count arguments and results."""
        self.moved += sum(map(sent, given))
        found = super().each(task, given)
        self.moved += sent(found)
        return found

    def total(self, task: Any, given: Any) -> Any:
        """Add up; count arguments, and a result for each addition of a pair."""
        self.moved += sum(map(sent, given))
        made = super().total(task, given)
        self.moved += (self.count - 1) * made.nbytes
        return made


def sent(things: Any) -> int:
    """Return the bytes of the arrays among some things."""
    return sum(x.nbytes for x in things if isinstance(x, np.ndarray))


def shard(seed: int, n: int, C: int, a: int) -> SecondMoment:
    """Return n samples of a layer of C outputs and a inputs, P = C a."""
    rng = np.random.default_rng(seed)
    rows = Factors((Factor(rng.normal(size=(n, C, 1, C)), rng.normal(size=(n, 1, a))),))
    ends = tuple(n * c // C for c in range(C + 1))
    return SecondMoment(rows, np.full((n, C), 1 / (n * C)), ends)


def formula(W: int, P: int, N: int, K: int) -> int:
    """Return the bytes of XX'z for one z: X'z added in pairs and sent to all shards."""
    return 8 * ((W - 1) * P + W * P + 2 * N * K)


def measured(W: int, n: int, C: int, a: int, m: int = 8) -> tuple[int, int]:
    """Return the bytes counted in one product with m columns, and the formula's."""
    workers = Counted([shard(k, n, C, a) for k in range(W)])
    whole = joined(workers)
    workers.moved = 0
    whole.rows.gram_times(np.ones((*whole.rows.shape[:2], m)))
    return workers.moved, m * formula(W, C * a, W * n, C)


def pace(n: int = 1024) -> float:
    """Return multiplications a second of the processor in a product of matrices."""
    A, best = np.ones((n, n)), np.inf
    for _ in range(5):
        start = time.process_time()
        A @ A
        best = min(best, time.process_time() - start)
    return float(n**3 / best)


def main() -> None:
    """Print the page."""
    print("# A hundred workers, 10^9 parameters\n")
    print(
        f"Written by `make hundred` on {datetime.date.today()}: refspec "
        f"{refspec.__version__}. Estimates: nothing of\nthis size was run.\n\n"
        "**Bytes of one product XX'z** with 8 columns, counted on shards in one "
        "process, and\n8 (2 W - 1) P + 16 N K for each column.\n"
    )
    print("| W | P | N | counted | formula |\n|---|---|---|---|---|")
    for W, n, C, a in (
        (2, 40, 4, 50),
        (4, 20, 4, 50),
        (8, 10, 4, 100),
        (8, 40, 6, 200),
    ):
        counted, known = measured(W, n, C, a)
        if counted != known:
            sys.exit(f"counted {counted} bytes, the formula says {known}")
        print(f"| {W} | {C * a} | {W * n} | {counted} | {known} |")
    W, P, N, K, k = LARGE.values()
    vectors = ways.products(k, 5) + 5 * ways.FURTHER
    own = pace()
    print(
        f"""
**The {k} largest, attributed**, at W = {W}, P = {P:.0e}, N = {N}, K = {K}: five
spectra, about {vectors} products in all. A network of P parameters used once takes P
multiplications a sample forward and twice that back, and as many again for what its
derivative needs: 6 P N a product. Sums and broadcasts go through a tree of log2 W
steps, P numbers each.

| machines | computing, a product | network, a product | all of it |
|---|---|---|---|"""
    )
    steps = int(np.ceil(np.log2(W)))
    for name, (band, given) in MACHINES.items():
        speed = own if given is None else given
        work, wire = 6.0 * P * N / W / speed, 2 * steps * 8.0 * P / band
        hours = vectors * (work + wire) / 3600
        each = f"{work:.3g} s | {wire:.3g} s | {hours:.3g} h"
        print(f"| {name} ({speed:.1e} a second) | {each} |")
    space = ways.PRODUCTS * k + ways.FURTHER
    client, worker = 2 * 8e-9 * space * N * K, 16e-9 * P
    print(
        f"""
**Memory.** The client holds vectors over the rows alone, at most {space} of N K numbers
and room for as many again: {client:.3g} GB; it never has P numbers. A worker holds
its shard, and one column of P numbers on its way in and one on its way out,
{worker:.3g} GB: more at once only where they stay below 8 GiB. On torch ranks every
rank holds the vectors over the rows."""
    )


if __name__ == "__main__":
    main()
