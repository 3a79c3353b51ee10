"""Exporters, one module a framework, each with a function `export`.

What `export` takes beside the model means the same in all of them:

loader
    Batches (inputs, labels), for two arrays ``[(X, y)]``; labels are integers in
    0..C-1, or names of `class_names`; a class may have no sample. A mapping with
    `labels` is a batch too.
path
    Ends in `.npz` or `.zarr`; a Zarr group is written batch by batch, so the export
    never sits in memory. None returns the `Snapshot` instead.
layers, exclude
    Names of some of the layers, all of them by default, and of those to leave out.
classes
    Keep these logits only, in this order, and number the labels by them. The
    probabilities are then those given that the class is one of them.
seed
    Of the random probes by which the error of a derivative is measured.
label_smoothing
    That of the loss, in [0, 1): the Hessian, other than the Fisher information, depends
    on the labels.
class_weights
    C weights, those of a weighted cross entropy: a sample weighs as its class does.
sample_weights
    N weights, in the order of the loader. All weights together are made 1.
ignore_index
    A label that stands for none: its samples are left out.
class_names
    C names, for the manifest.
provenance
    A mapping, more for the manifest, JSON-able: the data, the licence, the seed.
recomputed
    Write no features and errors of layers that the model section gives again, within
    rounding in each batch: a file of a tenth of the size, and less. Reading runs the
    network, some samples at a time.
progress
    Show a bar, on a terminal only.

A single logit z, (batch, 1) or (batch,), is taken for the two (0, z). PyTorch and JAX
models may give logits of tokens or pixels: (batch, ..., C) or (batch, C, ...) beside
labels (batch, ...), each position a sample of its own with the weight of its input.

An export is of the cross entropy of the labels. Label smoothing changes the gradient,
not the Fisher information, which does not ask for labels: with it leave `mean_loss` and
`gradient_norm` out of the provenance, for they are those of another loss.

It holds the features that enter each layer and its errors for every label, the extended
gradients (i, c, c') of Papyan, "Traces of Class/Cross-Class Structure Pervade Deep
Learning Spectra", JMLR 21(252), 2020. Nothing is left behind where it fails.

Those of PyTorch and JAX have two functions more, for any network and any of its
parameters: `moment`, the Fisher information, and `hessian`, both by differentiation.
They run the network in float32 and in float64, so that rounding is measured; one that
runs in float32 only is measured between forward and reverse mode alone, and the kind of
the radius says so.

A module, and with it the framework, is imported when it is first used; the core imports
none of them.
"""

from importlib import import_module
from types import ModuleType

__all__ = ["jax", "onnx", "sklearn", "torch"]


def __getattr__(name: str) -> ModuleType:
    """Import an exporter; without its framework, the error names the extra."""
    if name not in __all__:
        raise AttributeError(f"module 'refspec.exporters' has no attribute {name!r}")
    return import_module(f"refspec.exporters.{name}")


def __dir__() -> list[str]:
    """List the exporters, imported or not."""
    return list(__all__)
