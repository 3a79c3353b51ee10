"""Shards on two dask workers, one of them killed, and on two gloo ranks."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import distributed
import numpy as np
import pytest

import refspec
from refspec.refusals import stated
from refspec.shards import Cluster, joined, parts_of
from support.command import run

REAL = refspec.datasets.digits_mlp


def shard(k, count=3):
    """Every count-th sample of a trained network, as a worker makes it."""
    s = REAL()
    some = np.arange(k, len(s.labels), count)
    layers = [refspec.Layer(x.name, x.features[some], x.errors[some]) for x in s.layers]
    made = refspec.snapshot(layers, s.labels[some], probabilities=s.probabilities[some])
    return refspec.fisher(made, ["fc3"])


class Make:
    """A function that pickle takes."""

    def __init__(self, k):
        self.k = k

    def __call__(self):
        return shard(self.k)


class Missing:
    def __call__(self):
        return refspec.fisher(refspec.load("/nowhere/run.npz"))


class Clumsy:
    def __call__(self):
        return np.ones(2) + np.ones(3)


class Dying(Make):
    """Ends the worker that makes it, the first time."""

    def __init__(self, k, mark):
        super().__init__(k)
        self.mark = mark

    def __call__(self):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__()


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def expect_that_of_all(found, true):
    radius = found.radius + true.radius
    values = [np.asarray(x.spectrum.values) for x in (found, true)]
    assert np.abs(values[0] - values[1]).max() <= radius
    assert np.abs(values[0] * (1 + 2.0**-20) - values[1]).max() > radius
    assert found.kinds == true.kinds


@pytest.fixture(scope="module")
def true():
    return refspec.attribute(refspec.fisher(REAL(), ["fc3"]), top=3)


def test_two_workers_find_what_one_process_finds(client, true):
    made = joined(Cluster([Make(k) for k in range(3)], client))
    expect_that_of_all(refspec.attribute(made, top=3), true)
    here = joined([shard(k) for k in range(3)])
    one, two = (refspec.density(x, probes=1, steps=4) for x in (made, here))
    assert np.all(one.lower <= two.upper)
    assert np.all(two.lower <= one.upper)


def test_a_worker_that_is_killed_changes_nothing(client, true, tmp_path):
    sources = [Make(0), Dying(1, tmp_path / "died"), Make(2)]
    made = joined(Cluster(sources, client))
    assert (tmp_path / "died").exists()
    expect_that_of_all(refspec.attribute(made, top=3), true)


def test_what_a_shard_raises_comes_here(client):
    with pytest.raises(refspec.ExportError, match="nowhere"):
        joined(Cluster([Missing()], client))
    with pytest.raises(TypeError, match="Client, got str"):
        Cluster([Make(0)], "tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="one or more, got none"):
        Cluster([], client)


@pytest.mark.slow
def test_a_worker_that_has_not_the_file_is_named(client, tmp_path):
    store = refspec.save(REAL(), tmp_path / "run.zarr")
    parts, shares = parts_of(store, 2, ["fc3"])
    (tmp_path / "run.zarr").rename(tmp_path / "elsewhere.zarr")
    with pytest.raises(refspec.ExportError) as raised:
        joined(Cluster(parts, client), shares=shares)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'run.zarr'}: expected a folder")
    assert "so says the worker tcp://" in said
    assert "which must see the file under the same path" in said
    assert stated(raised.value)


def test_an_accident_of_a_worker_is_not_a_refusal(client):
    with pytest.raises(ValueError, match="broadcast") as raised:
        joined(Cluster([Clumsy()], client))
    assert not stated(raised.value)
    assert "worker" not in str(raised.value)


def test_a_cluster_without_workers_is_refused():
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
        pytest.raises(ValueError, match="one or more workers, got none"),
    ):
        Cluster([Make(0)], client)


RANK = """
    import json
    import sys
    import torch
    import torch.distributed as dist
    from torch import nn
    import refspec
    from refspec.exporters.torch import across_ranks, moment
    from refspec.quadrature import whole_and_without

    def samples(k):
        made = torch.Generator().manual_seed(k)
        x = torch.randn(9 + k, 4, generator=made, dtype=torch.float64)
        return [(x, torch.arange(9 + k) % 3)]

    def said(wide):
        torch.manual_seed(0)
        layers = nn.Linear(4, wide), nn.Tanh(), nn.Linear(wide, 3)
        model = nn.Sequential(*layers).double()
        if alone:
            whole = refspec.joined([moment(model, samples(k)) for k in range(2)])
        else:
            whole = across_ranks(moment(model, samples(dist.get_rank())))
        sent, gathered = [], dist.all_gather
        dist.all_gather = lambda to, x: sent.append(x.numel()) or gathered(to, x)
        a = refspec.attribute(whole, top=5)
        counts = whole_and_without(whole)
        counts = {n: refspec.density(x, probes=2, steps=8) for n, x in counts.items()}
        largest = refspec.spectrum(whole, top=19)
        dist.all_gather = gathered
        return {
            "values": [float(x) for x in a.spectrum.values],
            "largest": [float(x) for x in largest.values],
            "shares": {n: x.tolist() for n, x in a.shares.items()},
            "traces": a.traces,
            "knockouts": {n: x.tolist() for n, x in a.knockouts.items()},
            "levels": {n: x.tolist() for n, x in a.levels.items()},
            "lower": {n: x.lower.tolist() for n, x in counts.items()},
            "upper": {n: x.upper.tolist() for n, x in counts.items()},
            "n": [x.n for x in counts.values()],
            "radius": float(a.radius),
            "kinds": a.kinds,
            "coverage": str(whole.coverage),
            "sent": max(sent, default=0),
        }

    to, alone = sys.argv[1], len(sys.argv) > 2
    if not alone:
        dist.init_process_group("gloo")
        to += str(dist.get_rank())
        room = 2 ** (10 + dist.get_rank())  # of a device that has less than another
        refspec.backend.temporary = lambda: room
    with open(to, "w") as file:
        json.dump({wide: said(wide) for wide in (5, 16)}, file)
"""


@pytest.mark.slow
def test_two_ranks_find_what_one_process_finds(tmp_path):
    script, tree = tmp_path / "rank.py", Path(refspec.__file__).parents[1]
    script.write_text(textwrap.dedent(RANK))

    def run(*command):
        ran = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)},
        )
        assert ran.returncode == 0, ran.stderr[-2000:]

    run(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(script, tmp_path / "rank"),
    )
    run(script, tmp_path / "one", "alone")
    one, other, alone = (
        json.loads((tmp_path / x).read_text()) for x in ("rank0", "rank1", "one")
    )
    assert one == other
    for wide, true in alone.items():
        found = one[wide]
        radius = found["radius"] + true["radius"]
        for what in ("values", "largest"):
            x, y = np.asarray(found[what]), np.asarray(true[what])
            assert np.abs(x - y).max() <= radius
            assert np.abs(x * (1 + 2.0**-20) - y).max() > radius
        for what in ("traces", "levels", "knockouts"):
            for name, y in true[what].items():
                gap = np.abs(np.asarray(found[what][name]) - y).max()
                assert gap <= radius * max(true["n"])
        for name, y in true["lower"].items():
            assert np.all(np.asarray(y) <= found["upper"][name])
            assert np.all(np.asarray(found["lower"][name]) <= true["upper"][name])
        for what in ("n", "kinds", "coverage"):
            assert found[what] == true[what]
    # over the rows, 57, a vector is in pieces: what is gathered are facts of the
    # moment and matrices of a block (nine cells, eight random vectors), none of them as
    # many as a block of vectors
    assert one["16"]["n"] == [57] * 5
    block = 9 + 8
    assert 0 < one["16"]["sent"] <= block**2 < 57 // 2 * block


def test_ranks_without_a_group_are_refused():
    from refspec.exporters.torch import across_ranks

    with pytest.raises(RuntimeError, match="needs a process group, got none"):
        across_ranks(shard(0))


@pytest.mark.slow
def test_the_command_line_finds_a_cluster(client, tmp_path):
    store = refspec.save(REAL(), tmp_path / "run.zarr")
    found = {}
    for where in ((), ("--scheduler", client.scheduler.address)):
        out = tmp_path / "out.json"
        words = ("spectrum", store, "--layer", "fc3", "--top", 3, "--json", out)
        ran = run(*words, *where)
        assert ran.exit_code == 0, ran.output
        found[where] = json.loads(out.read_text())
    one, two = found.values()
    gap = np.abs(np.asarray(one["values"]) - two["values"]).max()
    assert gap <= one["radius"] + two["radius"]
    ran = run("spectrum", store, "--scheduler", "tcp://127.0.0.1:1")
    assert ran.exit_code != 0
    assert "must be the address of a dask scheduler" in " ".join(ran.output.split())
