"""Class/cross-class structure of deep-network spectra: the reference implementation.

What a network is seen through

- `Snapshot`, `Layer`, `ModelSection`: a classifier's features, errors, probabilities;
  `snapshot` builds one from arrays, `load` and `save` read and write exports.
- `torch`, `jax`: from a model to its spectrum, ``refspec.torch.attribute(model,
  loader)``; `exporters`: a file of it, from these, sklearn and onnx; `coverage`: how
  much of the network an export holds; `datasets`: embedded trained networks; `models`:
  networks in plain arrays; `synthetic`: planted worlds.

What its spectrum is made of

- `fisher`, `features`, `errors`, `empirical_fisher`: second moments, never formed;
  `hessian`: the exact Hessian; `implicit`: that of any network, by products.
- `shards`: second moments of samples that lie apart, on disk, on other machines or
  GPUs; `joined` makes one of them.
- `differentiated`: the Fisher of any network, through products with its derivative.
- `decompose`: the levels of a second moment (`Decomposition`); `plain_means`.
- `coordinates`, `spectrum` (`Spectrum`): eigenvalues with a radius; `density`
  (`Density`): their number above any threshold, from products alone.
- `plan` (`Plan`): which way it takes, in what time and memory; `memory` limits it.
- `attribute` (`Attribution`): which level explains which eigenvalue; `attribution` has
  knock-outs, the Hessian's, means and depth profiles.
- `kronecker`: KFAC, EKFAC and CFAC; `random_matrix`: spectra predicted.

What is true of it

- `theorems`: every formal statement as a check; `verify` asks them about data,
  `selftest` about refspec; `testing`, `strategies`: the oracle for other test suites;
  `plots`, `report`: for people.

Names are imported when first used, so that what only passes by (pytest and Hypothesis
look at every installed package when they start) pays for nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from refspec._version import __version__

if TYPE_CHECKING:
    from refspec import attribution as attribution
    from refspec import claims as claims
    from refspec import coordinates as coordinates
    from refspec import coverage as coverage
    from refspec import curvature as curvature
    from refspec import datasets as datasets
    from refspec import differentiated as differentiated
    from refspec import exporters as exporters
    from refspec import hessian as hessian
    from refspec import implicit as implicit
    from refspec import jax as jax
    from refspec import kronecker as kronecker
    from refspec import memory as memory
    from refspec import models as models
    from refspec import plots as plots
    from refspec import populations as populations
    from refspec import random_matrix as random_matrix
    from refspec import report as report
    from refspec import rounding as rounding
    from refspec import selftest as selftest
    from refspec import shards as shards
    from refspec import strategies as strategies
    from refspec import structure as structure
    from refspec import synthetic as synthetic
    from refspec import testing as testing
    from refspec import theorems as theorems
    from refspec import torch as torch
    from refspec import verify as verify
    from refspec.attribution import Attribution as Attribution
    from refspec.attribution import attribute as attribute
    from refspec.classes import ClassArray as ClassArray
    from refspec.classes import Layer as Layer
    from refspec.classes import ModelSection as ModelSection
    from refspec.classes import Snapshot as Snapshot
    from refspec.classes import snapshot as snapshot
    from refspec.coordinates import Coordinates as Coordinates
    from refspec.curvature import SecondMoment as SecondMoment
    from refspec.curvature import empirical_fisher as empirical_fisher
    from refspec.curvature import errors as errors
    from refspec.curvature import features as features
    from refspec.curvature import fisher as fisher
    from refspec.export import ExportError as ExportError
    from refspec.export import load as load
    from refspec.export import save as save
    from refspec.leading import with_gram as with_gram
    from refspec.plans import Plan as Plan
    from refspec.plans import plan as plan
    from refspec.quadrature import Density as Density
    from refspec.quadrature import densities as densities
    from refspec.quadrature import density as density
    from refspec.rounding import Bounded as Bounded
    from refspec.rows import Rows as Rows
    from refspec.shards import joined as joined
    from refspec.spectra import Spectrum as Spectrum
    from refspec.spectra import spectrum as spectrum
    from refspec.structure import Decomposition as Decomposition
    from refspec.structure import decompose as decompose
    from refspec.structure import plain_means as plain_means
    from refspec.sweeps import Sweep as Sweep
    from refspec.sweeps import sweep as sweep

_HOMES = {
    "Attribution": "attribution",
    "Bounded": "rounding",
    "ClassArray": "classes",
    "Coordinates": "coordinates",
    "Decomposition": "structure",
    "ExportError": "export",
    "Layer": "classes",
    "ModelSection": "classes",
    "Rows": "rows",
    "SecondMoment": "curvature",
    "Snapshot": "classes",
    "Spectrum": "spectra",
    "attribute": "attribution",
    "decompose": "structure",
    "Density": "quadrature",
    "densities": "quadrature",
    "density": "quadrature",
    "empirical_fisher": "curvature",
    "errors": "curvature",
    "features": "curvature",
    "fisher": "curvature",
    "joined": "shards",
    "load": "export",
    "Plan": "plans",
    "plain_means": "structure",
    "plan": "plans",
    "save": "export",
    "snapshot": "classes",
    "spectrum": "spectra",
    "Sweep": "sweeps",
    "sweep": "sweeps",
    "with_gram": "leading",
}

#: Not in `__all__`, which is imported whole by those who ask for *.
_FRAMEWORKS = ("jax", "torch")


def __getattr__(name: str) -> Any:
    """Import a name of `__all__`, or a module of the package."""
    if name in _HOMES:
        value = getattr(import_module(f"refspec.{_HOMES[name]}"), name)
    else:
        value = None if name.startswith("_") else _module(name)
        if value is None:
            raise AttributeError(f"module 'refspec' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what is public, imported or not."""
    return sorted([*__all__, *_FRAMEWORKS])


def _module(name: str) -> Any:
    """Import a module of the package, or return None if there is none."""
    try:
        return import_module(f"refspec.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"refspec.{name}":
            raise
        return None


__all__ = [
    "Attribution",
    "Bounded",
    "ClassArray",
    "Coordinates",
    "Decomposition",
    "Density",
    "ExportError",
    "Layer",
    "ModelSection",
    "Plan",
    "Rows",
    "SecondMoment",
    "Snapshot",
    "Spectrum",
    "Sweep",
    "__version__",
    "attribute",
    "attribution",
    "claims",
    "coordinates",
    "coverage",
    "curvature",
    "datasets",
    "decompose",
    "densities",
    "density",
    "differentiated",
    "empirical_fisher",
    "errors",
    "exporters",
    "features",
    "fisher",
    "hessian",
    "implicit",
    "joined",
    "kronecker",
    "load",
    "memory",
    "models",
    "plain_means",
    "plan",
    "plots",
    "populations",
    "random_matrix",
    "report",
    "rounding",
    "save",
    "selftest",
    "shards",
    "snapshot",
    "spectrum",
    "strategies",
    "structure",
    "sweep",
    "synthetic",
    "testing",
    "theorems",
    "verify",
    "with_gram",
]
