"""refspec and its peers on the same work: `make bench` prints times and ratios.

Groups are (work, network, N); pytest-benchmark prints each method's ratio to the
fastest of its group, the table below it the peak memory of a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import cells
import pytest

import networks

WORK = {
    ("fisher", "c", 200): ["fisher_refspec", "fisher_vivit", "attribution_refspec"],
    ("fisher", "c", 600): ["fisher_refspec", "fisher_vivit", "attribution_refspec"],
    ("fisher", "b", 600): ["fisher_refspec", "fisher_vivit", "attribution_refspec"],
    ("fisher", "a", 1797): [
        "fisher_refspec",
        "fisher_vmap",
        "fisher_nngeometry",
        "attribution_refspec",
    ],
    ("hessian", "a", 1797): ["hessian_refspec", "hessian_jax", "hessian_torch"],
    ("hessian assembly", "b", 600): [
        "hessian_assembly_refspec",
        "hessian_assembly_jax",
    ],
    ("fisher, long", "c", 1797): ["fisher_refspec", "fisher_vivit"],
}
CASES = [(*group, method) for group, methods in WORK.items() for method in methods]
PEAKS = {}


@pytest.mark.parametrize(("work", "name", "N", "method"), CASES)
def test_cost(benchmark, work, name, N, method):
    network, X, y = networks.load(name)
    benchmark.group = f"{work} {name}/{N}"
    rounds = 1 if "long" in work else 3
    warm = 0 if "long" in work else 1
    function = cells.METHODS[method]
    benchmark.pedantic(
        function, (network, X[:N], y[:N]), rounds=rounds, warmup_rounds=warm
    )
    if "long" in work and method == "fisher_vivit":
        return  # 8 GB and minutes: the time alone
    command = [sys.executable, "-W", "ignore", cells.__file__, method, name, str(N)]
    out = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    PEAKS[benchmark.group, method] = json.loads(out.stdout.splitlines()[-1])["peak"]
    benchmark.extra_info["peak_MiB"] = PEAKS[benchmark.group, method]


def test_peaks(capsys):
    with capsys.disabled():
        print("\npeak resident memory, MiB (imports included)")
        for (group, method), peak in PEAKS.items():
            print(f"  {group:28s} {method:28s} {peak:8.0f}")
