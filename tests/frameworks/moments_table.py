"""Write moments.md: every network that differentiation is tested on, right or refused.

python tests/frameworks/moments_table.py > tests/frameworks/moments.md
"""

import pathlib
import sys

import jax
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from frameworks import jax_comparisons
from frameworks import test_moment_torch as checks
from frameworks.comparisons import case, compare_moment
from frameworks.pages import Page, others, sections
from refspec.exporters.torch import moment
from support.jax_networks import NETWORKS
from support.torch_networks import LABELS

HEAD = """# Networks that differentiation was tried on

`refspec.torch.moment` and `hessian` against PyTorch's own derivatives in
float64: the Fisher matrix as sum s J'(diag p - pp')J with J by one backward pass a
logit, the Hessian by the gradient of the gradient in three directions. Each as
distance / bound, relative to the norm; the bound is computed from the data. A number in
brackets is a sentence below. Torchvision's networks are in large.md.
"""
COLUMNS = ["network", "parameters", "Fisher", "Hessian"]


def cells(page, found):
    """What is found of a network, or the sentence that refuses it."""
    if isinstance(found, str):
        return [f"refused {page.sentence(found)}", "", ""]
    P, fisher, curved = found
    shown = (
        f"refused {page.sentence(curved)}"
        if isinstance(curved, str)
        else page.pair(curved)
    )
    return [f"{P:,}", page.pair(fisher), shown]


def small(name):
    """One of the networks of `comparisons.case`."""
    found = compare_moment(case(name))
    if isinstance(found, str):
        return found
    return found.moment.shape[1], found.fisher, found.hessian


def of_jax(name):
    """One of the networks in JAX."""
    found, fisher, curved = jax_comparisons.compare(name)
    return found.shape[1], fisher, curved


def refused():
    """Models that have no such moment."""
    return {
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


def sentence(model):
    """What is said to a model that is refused."""
    try:
        found = moment(model, [(checks.X, LABELS)])
    except ValueError as error:
        return str(error)
    return found.shape[1], (1.0, 0.0), "taken"


def main(names=None):
    """Print the page; return whether something is wrong."""
    page = Page(HEAD)
    for title, some in sections(names):
        page.table(title, COLUMNS, some, lambda name: cells(page, small(name)))
    jax.config.update("jax_enable_x64", True)
    in_jax = [x for x in NETWORKS if names is None or x in names]
    if in_jax:
        title = f"JAX {jax.__version__}: functions, Flax (linen, nnx), Equinox"
        page.table(title, COLUMNS, in_jax, lambda x: cells(page, of_jax(x)))
    others(page, 1, names)
    bad = refused()
    title = "Models that have none"
    page.table(title, COLUMNS, bad, lambda x: cells(page, sentence(bad[x])))
    return page.end()


if __name__ == "__main__":
    sys.exit(main())
