"""Large and fast: what is asked for, and what it takes; `make sizes` prints the table.

Every row is run in processes of its own, one after the other, the peers' beside
refspec's: wall and processor seconds and the peak of resident memory, imports included
(but for those that a small network is made with). Planned are seconds and bytes of the
work on a moment that is there, as `refspec.plan` says them before it.
Networks are as initialised, images are class means and noise: nothing here depends on
what they have learned, but all rows count, which is the most work there can be.

    python tests/benchmarks/sizes.py                    # all of them, an hour
    python tests/benchmarks/sizes.py --only last        # those whose title has the word
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1] / "networks")]
CACHE = HERE.parents[2] / ".cache"


@dataclass(frozen=True)
class Row:
    """Work, the cells that do it (the first is refspec's), and what is asked for.

    seconds and megabytes: at most; ratio: of the second cell's time to the first's.
    """

    title: str
    cells: tuple[str, ...]
    seconds: float | None = None
    megabytes: float | None = None
    ratio: float | None = None
    times: int = 1


def small(work: str, name: str, N: int, *methods: str) -> tuple[str, ...]:
    """Return the cells of `cells.py` for one of the networks of `networks.py`."""
    return tuple(f"small {work}_{x} {name} {N}" for x in methods)


ROWS = [
    Row(
        "Fisher b/600", small("fisher", "b", 600, "refspec", "vivit"), ratio=4, times=3
    ),
    Row(
        "Fisher c/600", small("fisher", "c", 600, "refspec", "vivit"), ratio=4, times=3
    ),
    Row("Fisher c/1797", small("fisher", "c", 1797, "refspec", "vivit"), ratio=6),
    Row(
        "Fisher a/1797",
        small("fisher", "a", 1797, "refspec", "nngeometry"),
        ratio=7,
        times=3,
    ),
    Row(
        "Hessian and eigenvalues a/1797",
        small("hessian", "a", 1797, "refspec", "jax"),
        ratio=6.8,
        times=3,
    ),
    Row(
        "Hessian assembly b/600",
        small("hessian_assembly", "b", 600, "refspec", "jax"),
        ratio=10,
        times=3,
    ),
    *(
        Row(
            f"attribution over spectrum {name}/{N}",
            (
                f"small fisher_refspec {name} {N}",
                f"small attribution_refspec {name} {N}",
            ),
            ratio=-2,
            times=3,
        )
        for name, N in (("a", 1797), ("b", 600), ("c", 600))
    ),
    Row(
        "report over attribution a/1797",
        ("command attribute a", "command report a"),
        ratio=-3,
    ),
    Row("MLP 784-2048x7-10, N = 1360, all", ("mlp spectrum",), 150, 6000),
    Row("the same, attributed", ("mlp attribute",), 480, None),
    Row("the same, top 200 and densities", ("mlp top",), 60, None),
    Row("VGG11, N = 1360, top 100 and densities", ("vgg top",), 1800, 8000),
    Row(
        "resnet18 by differentiation, N = 100, top 10",
        ("resnet 10", "resnet curvlinops"),
        20,
        3000,
    ),
    Row("resnet18, N = 100, top 50 attributed", ("resnet 50",), 60, None),
    Row("resnet18, N = 100, all 900", ("resnet all",), 360, None),
    Row("last layer 256 -> 74, N = 29000, top 50", ("last attribute",), 300, 4000),
    Row("last layer 256 -> 74, N = 29000, check", ("last check",), None, 3000),
    Row("last layer 512 -> 1000, N = 2000, top 50", ("wide attribute",), None, 4000),
    Row("CNN, 576 positions, N = 10000", ("cnn spectrum",), 120, 3000),
]


def images(N: int, pixels: int, C: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return N images of C classes: class means and noise, and their labels, sorted."""
    rng = np.random.default_rng(0)
    y = np.sort(np.arange(N) % C)
    return rng.standard_normal((C, pixels))[y] + rng.standard_normal((N, pixels)), y


def regression(N: int, d: int, C: int, empty: int = 0) -> tuple[Any, Any, Any]:
    """Return a softmax regression that has learned most of its labels, and its data.

    Inputs as those of a last layer, not negative; the last `empty` classes have none.
    """
    from refspec import models

    rng = np.random.default_rng(1)
    y = np.sort(np.arange(N) % (C - empty))
    X = np.maximum(rng.standard_normal((C, d))[y] + rng.standard_normal((N, d)), 0)
    some = rng.permutation(N)[:4000]
    network = models.training.fit(
        models.softmax_regression(d, C), X[some], y[some], method="adam", steps=60
    )
    return network, X, y


def planned(moment: Any, what: str, **how: Any) -> dict[str, float]:
    """Do what is planned; return the estimate, and the seconds that it took."""
    import refspec

    plans, start = [estimated(moment, what, **how)], time.perf_counter()
    getattr(refspec, what)(moment, **how)
    return against(plans, start)


def exported(name: str) -> Path:
    """Return the export of a case, written when first asked for."""
    from refspec import export, models

    path = CACHE / f"sizes_{name}.npz"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        if name == "last":
            made = regression(29_000, 256, 74, 4)
        else:
            import networks

            made = networks.load(name)
        export.save(models.snapshot(*made), path, compress=False)
    return path


def estimated(subject: Any, what: str, **how: Any) -> tuple[float, int]:
    """Return the seconds and the bytes of a plan."""
    import refspec

    found = refspec.plan(subject, what=what, **how)
    return found.seconds, found.bytes


def against(plans: list[tuple[float, int]], start: float) -> dict[str, float]:
    """Return what was planned for work that began at `start` and has ended."""
    taken = time.perf_counter() - start
    planned, room = sum(x for x, _ in plans), max(x for _, x in plans)
    return {"planned": planned, "taken": taken, "room": room / 1e6}


def command(*words: str) -> None:
    """Run a command of refspec in this process."""
    from refspec.cli.app import app

    try:
        app(list(words))
    except SystemExit as end:
        if end.code:
            raise


def densities(moment: Any, top: int) -> dict[str, float]:
    """Attribute the largest eigenvalues; count those of the whole and knock-outs."""
    import refspec

    plans, start = [estimated(moment, "attribute", top=top)], time.perf_counter()
    held = refspec.with_gram(moment)  # one for both
    plans.append(estimated(held, "densities"))
    refspec.attribute(held, top=top)
    refspec.densities(held)
    return against(plans, start)


def torch_moment(family: str, N: int, shape: tuple[int, ...]) -> Any:
    """Return the moment by differentiation of an untrained network of `paper.py`."""
    import paper
    import torch

    from refspec.exporters.torch import moment

    torch.manual_seed(0)
    model = paper.build(paper.Recipe(family)).double().eval()
    X, y = images(N, int(np.prod(shape)))
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(y))
    return moment(model, torch.utils.data.DataLoader(data, batch_size=50))


def cell_small(method: str, name: str, N: str) -> None:
    """Run a cell of `cells.py`."""
    import cells

    import networks

    network, X, y = networks.load(name)
    cells.METHODS[method](network, X[: int(N)], y[: int(N)])


def cell_command(what: str, name: str) -> dict[str, float]:
    """Run a command on the export of one of the small networks."""
    plans, start = [estimated(exported(name), what)], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        page = ("-o", f"{folder}/page.html") if what == "report" else ()
        command(what, str(exported(name)), *page)
    return against(plans, start)


def cell_mlp(what: str) -> dict[str, float]:
    """Eight layers, seven of them 2048 wide: P = 26.8 M."""
    import refspec
    from refspec import models

    X, y = images(1360, 784)
    rng = np.random.default_rng(0)
    network = models.mlp([784, *[2048] * 7, 10], "relu", rng=rng)
    moment = refspec.fisher(models.snapshot(network, X, y))
    if what == "top":
        return densities(moment, 200)
    return planned(moment, what)


def cell_vgg(what: str) -> dict[str, float]:  # noqa: ARG001 there is one
    """VGG11 of `paper.py`, by differentiation: P = 9.2 M."""
    import refspec

    with refspec.memory.within(7_400_000_000):  # of 8 GB, what torch takes apart
        return densities(torch_moment("vgg11", 1360, (784,)), 100)


def cell_resnet(what: str) -> dict[str, float] | None:
    """ResNet18 of `paper.py`, P = 11.2 M, 100 images."""
    if what == "curvlinops":
        curvlinops_top()
        return None
    moment = torch_moment("resnet18", 100, (784,))
    if what == "all":
        return planned(moment, "spectrum")
    return planned(moment, "attribute", top=int(what))


def curvlinops_top() -> None:
    """Find the ten largest eigenvalues of the GGN as curvlinops and SciPy do."""
    import paper
    import scipy.sparse.linalg
    import torch
    from curvlinops import GGNLinearOperator

    torch.manual_seed(0)
    model = paper.build(paper.Recipe("resnet18")).eval()
    X, y = images(100, 784)
    data = [(torch.tensor(X, dtype=torch.float32), torch.tensor(y))]
    parameters = [p for p in model.parameters() if p.requires_grad]
    operator = GGNLinearOperator(model, torch.nn.CrossEntropyLoss(), parameters, data)
    scipy.sparse.linalg.eigsh(operator.to_scipy(), k=10, return_eigenvectors=False)


def cell_last(what: str) -> dict[str, float] | None:
    """The last layer of a network of 70 classes and 4 that have no sample."""
    path, room = exported("last"), ("--memory", "3800MB")
    if what == "check":
        command(what, str(path), *room)
        return None
    plans = [estimated(path, what, top=50, memory_limit=3_800_000_000)]
    start = time.perf_counter()
    command(what, str(path), "--top", "50", *room)
    return against(plans, start)


def cell_wide(what: str) -> dict[str, float]:
    """The last layer of a network of 1000 classes; the 50 largest eigenvalues."""
    import refspec
    from refspec import models

    network, X, y = regression(2000, 512, 1000)
    f = models.logits(network, X)
    p = np.exp(f - np.max(f, axis=1, keepdims=True))
    p /= np.sum(p, axis=1, keepdims=True)
    h = np.concatenate([X, np.ones_like(X[:, :1])], axis=1)
    layer = refspec.classes.OutputLayer("linear1", h[:, None, :], p)
    seen = refspec.snapshot([layer], y, probabilities=p)
    with refspec.memory.within(3_800_000_000):
        return planned(seen, what, top=50)


def cell_cnn(what: str) -> dict[str, float]:
    """A first convolution with 576 positions: P = 5453; seen 500 images at a time."""
    import refspec
    from refspec import models

    X, y = images(10_000, 784)
    rng = np.random.default_rng(0)
    network = models.cnn((1, 28, 28), [6, 17], 10, kernel=5, padding=0, rng=rng)

    def made(i: int) -> Any:
        some = slice(i, i + 500)
        seen = models.snapshot(network, X[some].reshape(-1, 1, 28, 28), y[some])
        return refspec.fisher(seen)

    shards = [lambda i=i: made(i) for i in range(0, len(X), 500)]
    return planned(refspec.joined(shards), what)


CELLS: dict[str, Callable[..., dict[str, float] | None]] = {
    name.removeprefix("cell_"): made
    for name, made in globals().items()
    if name.startswith("cell_")
}


def one(words: list[str]) -> dict[str, float]:
    """Run a cell in this process and return what it took."""
    if words[0] in ("last", "command"):
        exported("last" if words[0] == "last" else words[-1])
    if words[0] == "small":  # the network is there before the clock starts
        import networks

        networks.load(words[2])
    start, used = time.perf_counter(), os.times()
    estimate = CELLS[words[0]](*words[1:]) or {}
    now = os.times()
    spent = now.user + now.system - used.user - used.system
    status = Path("/proc/self/status").read_text()
    peak = next(x for x in status.splitlines() if x.startswith("VmHWM")).split()[1]
    wall = time.perf_counter() - start
    return {"wall": wall, "processor": spent, "MB": int(peak) * 1024 / 1e6} | estimate


def apart(cell: str, seconds: float) -> dict[str, float] | str:
    """Run a cell in a process of its own; a sentence if there is no result."""
    call = [sys.executable, "-W", "ignore", str(HERE), "--cell", cell]
    try:
        run = subprocess.run(call, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"not done in {seconds:.0f} s"
    if run.returncode:
        return run.stderr.strip().splitlines()[-1][:90] if run.stderr else "killed"
    made: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return made


def print_row(row: Row, seconds: float) -> None:
    """Run a row's cells in turns and print their medians beside what is asked for."""
    runs: dict[str, list[Any]] = {cell: [] for cell in row.cells}
    for _ in range(row.times):
        for cell in row.cells:
            runs[cell].append(apart(cell, seconds))
    walls = []
    for cell, found in runs.items():
        failed = [x for x in found if isinstance(x, str)]
        if failed:
            print(f"| {row.title} | {cell} | {failed[0]} | | | |", flush=True)
            walls.append(float("nan"))
            continue
        wall, spent, peak = (
            statistics.median(x[key] for x in found)
            for key in ("wall", "processor", "MB")
        )
        walls.append(wall)
        asked = []
        if cell == row.cells[0] and row.seconds:
            asked.append(f"{row.seconds:g} s")
        if cell == row.cells[0] and row.megabytes:
            asked.append(f"{row.megabytes:g} MB")
        if len(walls) == 2 and row.ratio:
            most = f"{'at most ' * (row.ratio < 0)}{abs(row.ratio):g}"
            asked.append(f"ratio {walls[1] / walls[0]:.2f}, to reach {most}")
        if "planned" in found[-1]:
            of_it, room = (found[-1][key] for key in ("taken", "room"))
            asked.append(
                f"planned {found[-1]['planned']:.1f} s of it, taken {of_it:.1f} s; "
                f"planned {room:.0f} MB"
            )
        cells = (row.title, cell, f"{wall:.2f}", f"{spent:.2f}", f"{peak:.0f}")
        print(f"| {' | '.join(cells)} | {'; '.join(asked)} |", flush=True)


def main() -> None:
    """Print the table."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--cell", help="run one cell here, print JSON")
    given.add_argument("--only", default="", help="rows whose title has these words")
    given.add_argument("--limit", type=float, default=2400, help="seconds of a cell")
    options = given.parse_args()
    if options.cell:
        print(json.dumps(one(options.cell.split())))
        return
    print("| work | cell | wall s | CPU s | peak MB | asked for, planned |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        if options.only in row.title:
            print_row(row, options.limit)


if __name__ == "__main__":
    main()
