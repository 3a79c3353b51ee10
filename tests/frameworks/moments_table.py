"""Write moments.md: every network that differentiation is tested on, right or refused.

python tests/frameworks/moments_table.py > tests/frameworks/moments.md
"""

import pathlib
import sys
import warnings

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from frameworks import test_moment_torch as checks
from refspec.exporters.torch import hessian, moment
from support.torch_networks import LABELS, SMALL, loader, small

HEAD = """# Networks that differentiation was tried on

`refspec.exporters.torch.moment` and `hessian` against PyTorch's own derivatives in
float64: the Fisher matrix as sum s J'(diag p - pp')J with J by one backward pass a
logit, the Hessian by products. Distances are relative to the norm of what they are of;
the bound is the one computed from the data. N = 6, C = 3.

| network | parameters | Fisher off by | bound | Hessian off by | bound |
|---|---|---|---|---|---|"""


def row(name):
    """Compare one network."""
    model, inputs = small(name)
    found = moment(model, loader(inputs))
    J, p = checks.jacobian(model, inputs)
    true = checks.fisher(J, p)
    size = np.linalg.norm(true)
    cells = [f"{found.shape[1]:,}"]
    for x in (np.linalg.norm(found.matrix() - true), checks.bound(found, J)):
        cells.append(f"{x / size:.0e}")
    try:
        H = hessian(model, loader(inputs))
    except ValueError as error:
        return [*cells, f"refused: {error}", ""]
    V = np.random.default_rng(0).standard_normal((H.size, 2))
    run = checks.normed if "weight norm" in name else checks.logits
    exact = checks.loss_hessian(model, inputs, V, run)
    size = np.linalg.norm(exact)
    off, bound = np.linalg.norm(H.dot(V) - exact), 2 * H.lost * np.linalg.norm(V)
    return [*cells, f"{off / size:.0e}", f"{bound / size:.0e}"]


def refused():
    """List what is refused, with the sentence."""
    cases = {
        "batch statistics in evaluation": checks.ended(checks.Batch()),
        "dropout that is always on": checks.ended(checks.Random()),
        "a softmax at the end": checks.ended(torch.nn.Softmax(1)),
        "logits in half precision": checks.ended(checks.Cast()),
        "logits cut from the graph": checks.ended(checks.Detached()),
        "a list for logits": checks.ended(checks.Few()),
        "a backward pass that is wrong": checks.ended(checks.wrong_body()),
        "all parameters frozen": checks.FROZEN,
        "a lazy module": checks.LAZY,
        "complex weights": checks.COMPLEX,
    }
    for name, model in cases.items():
        try:
            moment(model, [(checks.X, LABELS)])
        except ValueError as error:
            yield name, str(error)


def main():
    """Print the table."""
    warnings.simplefilter("ignore")
    print(HEAD)
    for name in SMALL:
        print("|", " | ".join([name, *row(name)]), "|", flush=True)
    print("\n## Refused\n\n| what | sentence |\n|---|---|")
    for name, sentence in refused():
        print("|", name, "|", sentence, "|")
    print(f"\nPyTorch {torch.__version__.split('+')[0]}.")


if __name__ == "__main__":
    main()
