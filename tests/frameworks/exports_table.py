"""Write exports.md: every network of the tests through `export`, right or refused.

python tests/frameworks/exports_table.py > tests/frameworks/exports.md
"""

import pathlib
import sys

import jax

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from frameworks import jax_comparisons
from frameworks.comparisons import case, compare_export
from frameworks.pages import Page, others, sections
from refspec import coverage
from support.jax_networks import NETWORKS

HEAD = """# Networks that were exported

`refspec.exporters.torch.export` in float64 against the definition by PyTorch:

- Fisher: of the exported layers, sum s J'(diag p - pp')J, J by one backward pass a
  sample and logit;
- KFAC, in the settings expand and reduce: (sum s p sum_t dd') (x) (sum s/T sum_t hh'),
  or of summed d and mean h, with h the inputs of a layer (patches by torch's own
  convolution) and d what comes back to it from -log p; that of the worst layer;
- Hessian of the network that the export holds, by the gradient of the gradient, in
  three directions. Its bound is proved (theory/hessian.md, H7), or *measured* (H11)
  where the proof says nothing.

Each as distance / bound, relative to the norm. A number in brackets is a sentence
below. What export refuses goes by differentiation (moments.md).
"""
COLUMNS = ["network", "covered", "Fisher", "KFAC expand", "KFAC reduce", "Hessian"]


def row(page, name):
    """One row of the table."""
    found = compare_export(case(name))
    if isinstance(found, str):
        return [f"refused {page.sentence(found)}", "", "", "", ""]
    pairs = [found.fisher, found.kfac["expand"], found.kfac["reduce"]]
    cells = [str(coverage.of_snapshot(found.made)), *(page.pair(x) for x in pairs)]
    if found.hessian is None:
        why = found.made.provenance["without_network"]
        return [*cells, f"no network {page.sentence(why)}"]
    return [*cells, f"{page.pair(found.hessian)} {found.known}".rstrip()]


def row_of_jax(page, name):
    """One row of the networks in JAX: rows are compared in no order of columns."""
    found = jax_comparisons.compare_export(name)
    if isinstance(found, str):
        return [f"refused {page.sentence(found)}", ""]
    seen, gram = found
    return [str(seen), page.pair(gram)]


def main(names=None):
    """Print the page; return whether something is wrong."""
    page = Page(HEAD)
    for title, some in sections(names):
        page.table(title, COLUMNS, some, lambda name: row(page, name))
    in_jax = [x for x in NETWORKS if names is None or x in names]
    if in_jax:
        jax.config.update("jax_enable_x64", True)
        title = f"JAX {jax.__version__}: functions, Flax (linen, nnx), Equinox"
        columns = ["network", "covered", "Gram matrix of the Fisher's rows"]
        page.table(title, columns, in_jax, lambda name: row_of_jax(page, name))
    others(page, 0, names)
    return page.end()


if __name__ == "__main__":
    sys.exit(main())
