"""Spoiled exports: the same snapshot, a sentence, or rightly signed other numbers.

`make fuzz` tries 100,000 archives and 20,000 stores, or as many as its seconds allow;
the ordinary tests a few hundred. What is tried, and how it ends, is printed.
"""

import collections
import contextlib
import os
import resource
import shutil
import time
import warnings
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from refspec import classes, export
from refspec.classes import Layer, ModelSection
from support import mutations

COUNTS = {"npz": 300, "zarr": 150}
SEED = int(os.environ.get("REFSPEC_FUZZ_SEED", "0"))
ROUND = 1000  # examples after which the clock is looked at
COUNT = int(os.environ.get("REFSPEC_FUZZ", "0"))  # of archives; a fifth of stores
SECONDS = float(os.environ.get("REFSPEC_FUZZ_SECONDS", "600"))
if COUNT:
    COUNTS = {"npz": COUNT, "zarr": COUNT // 5}
#: A budget that every honest reading of these files needs a thousandth of.
MAX_BYTES = 2**24


def make():
    rng = np.random.default_rng(0)
    N, C = 6, 3
    layers = [
        Layer("fc", rng.normal(size=(N, 1, 4)), rng.normal(size=(N, C, 1, 5))),
        Layer("fd", rng.normal(size=(N, 1, 4)), rng.normal(size=(N, C, 1, 5))),
    ]
    steps = [{"op": "linear", "name": "fc", "weight": "fc.w", "bias": None}]
    model = ModelSection(rng.normal(size=(N, 4)), steps, {"fc.w": np.ones((3, 4))})
    return classes.snapshot(
        layers,
        [0, 0, 1, 1, 2, 2],
        logits=rng.normal(size=(N, C)),
        provenance={"class_names": ["a", "b", "c"], "mean_loss": 0.5},
        model=model,
    )


MADE = make()


def same(found):
    """Whether a snapshot is the one that was saved, to the bit, names included."""
    if [x.name for x in found.layers] != [x.name for x in MADE.layers]:
        return False
    pairs = [(MADE.probabilities, found.probabilities), (MADE.labels, found.labels)]
    pairs += [(MADE.sample_weights, found.sample_weights)]
    for x, y in zip(MADE.layers, found.layers, strict=True):
        pairs += [(x.features, y.features), (x.errors, y.errors)]
    if found.model is None or list(found.model.operations) != MADE.model.operations:
        return False
    pairs += [(MADE.model.inputs, found.model.inputs)]
    pairs += [(MADE.model.parameters["fc.w"], found.model.parameters.get("fc.w"))]
    return all(np.array_equal(x, y) for x, y in pairs)


class Tally:
    """Outcomes by kind, and the worst in time and memory."""

    def __init__(self, kind):
        self.kind, self.outcomes = kind, collections.Counter()
        self.worst, self.start = (0.0, ""), time.monotonic()
        self.memory = self.peak()

    @staticmethod
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    def load(self, path, steps, signed):
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = export.load(path, max_bytes=MAX_BYTES)
        except export.ExportError as error:
            outcome, said = "ExportError", len(str(error)) - len(str(path))
        else:
            said = 0
            outcome = "equal" if same(found) else "signed anew"
            assert outcome == "equal" or signed, "altered, and nobody noticed"
        assert said < 2000, "a sentence is short"
        self.outcomes[outcome] += 1
        self.worst = max(self.worst, (time.perf_counter() - start, str(steps)))

    def tell(self):
        seconds, steps = self.worst
        print(
            f"\n{self.kind}: {sum(self.outcomes.values())} tried in "
            f"{time.monotonic() - self.start:.0f} s: {dict(self.outcomes)}; worst "
            f"{seconds:.3f} s by {steps}; peak {self.peak()} MiB "
            f"({self.memory} MiB before)"
        )


@pytest.fixture
def tally(request):
    kept = Tally(request.node.name)
    yield kept
    kept.tell()
    assert kept.peak() - kept.memory <= 256  # MiB: a file of 10 kB


def steps_of(kinds):
    one = st.tuples(st.integers(0, len(kinds) - 1), st.integers(0, 2**32 - 1))
    return st.lists(one, min_size=1, max_size=3)


def spoil(change, parts, random):
    """Change the parts; a change that cannot be made of what is spoiled is left out."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("error")
        change(parts, random)


def repeat(tally, kind, kinds, run):
    """Run rounds of examples until enough are tried or the time is over."""
    left, k = COUNTS[kind], SEED
    print(f"\n{kind}: seeds from {SEED}")
    while left > 0 and time.monotonic() - tally.start < SECONDS:
        how = settings(
            max_examples=min(left, ROUND),
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        seed(k)(how(given(steps_of(kinds))(run)))()
        left, k = left - ROUND, k + 1


@pytest.mark.slow
def test_archives(tally, tmp_path):
    path = export.save(MADE, tmp_path / "run.npz")
    with np.load(path) as file:
        good = {f"{x}.npy": mutations.npy(file[x]) for x in file.files}

    def run(steps):
        parts, names, last = dict(good), [], None
        for k, at in steps:
            change, random = mutations.ARCHIVES[k], Random(at)
            names.append(change.__name__ if change else "the whole file")
            if change is None:
                last = random
            else:
                spoil(change, parts, random)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, of a name that comes twice
            data = mutations.packed(parts, Random(steps[0][1]))
        if last is not None:
            data = mutations.some_bytes(data, last)
        path.write_bytes(data)
        signed = {"a_manifest", "an_array"} & set(names)
        tally.load(path, names, signed)

    repeat(tally, "npz", mutations.ARCHIVES, run)


def test_stores(tally, tmp_path):
    path = export.save(MADE, tmp_path / "run.zarr")
    files = [x for x in path.rglob("*") if x.is_file()]
    good = {str(x.relative_to(path)): x.read_bytes() for x in files}
    (tmp_path / "outside").write_bytes(b"x")

    def run(steps):
        parts, names = dict(good), []
        for k, at in steps:
            names.append(mutations.STORES[k].__name__)
            spoil(mutations.STORES[k], parts, Random(at))
        changed = [x for x in {**good, **parts} if good.get(x) != parts.get(x)]
        try:
            for name in changed:
                put(path, name, parts.get(name), tmp_path)
            tally.load(path, names, signed=False)
        finally:
            for name in {*changed} - {*good}:
                put(path, name, None, tmp_path)
            for name, data in good.items():
                if name in changed or not (path / name).is_file():
                    put(path, name, data, tmp_path)

    repeat(tally, "zarr", mutations.STORES, run)
    assert same(export.load(path))  # all was put back


def put(path, name, what, outside):
    """Make a file, what is none, or nothing, of a name in a store."""
    place = Path(os.path.normpath(path / name))
    if path not in place.parents or max(map(len, place.parts)) > 255:
        return
    for folder in place.parents:  # what is no folder where one belongs gives way
        if path in folder.parents and (folder.is_symlink() or not folder.is_dir()):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                folder.unlink()
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    if what is None:
        return
    with contextlib.suppress(FileExistsError):
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, bytes):
            place.write_bytes(what)
        elif what == "pipe":
            os.mkfifo(place)
        elif what == "folder":
            place.mkdir()
        else:
            place.symlink_to("/dev/zero" if what == "zero" else outside / "outside")
