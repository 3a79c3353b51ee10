"""Write exports.md: every network of the tests through `export`, right or refused.

python tests/frameworks/exports_table.py > tests/frameworks/exports.md
"""

import pathlib
import sys
import warnings

import numpy as np
import torch
from torch.func import functional_call
from torch.utils._pytree import tree_map

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from refspec import coverage, curvature, hessian, models, rounding
from refspec.exporters.checking import path_length
from refspec.exporters.torch import export
from refspec.hessian.bounds import hessian_radius
from support.torch_networks import LABELS, SMALL, loader, small

HEAD = """# Networks that were exported

`refspec.exporters.torch.export` in float64 against the definition by PyTorch: the
Fisher matrix of the exported layers as sum s J'(diag p - pp')J, J by one backward pass
a sample and logit; the Hessian of the network that the export holds by
torch.func.hessian. Distances and bounds are relative to the norm. What export refuses
goes by differentiation (moments.md). N = 6, C = 3.

| network | covered | Fisher off by | bound | Hessian off by | bound |
|---|---|---|---|---|---|"""


def columns(model, made, found):
    """Put what is given by parameter in the order of an export: [weight | bias]."""
    modules = dict(model.named_modules())
    parts = []
    for x in made.layers:
        own = modules[x.name]
        weight = found[f"{x.name}.weight".lstrip(".")]
        lead = weight.shape[: weight.ndim - own.weight.ndim]
        part = weight.reshape(*lead, len(own.weight), -1)
        if own.bias is not None:
            bias = found[f"{x.name}.bias".lstrip(".")]
            part = torch.cat([part, bias[..., None]], -1)
        parts.append(part.reshape(*lead, -1))
    return torch.cat(parts, -1)


def own(made):
    """Names of the parameters that an export covers."""
    keys = ("weight", "bias")
    return {f"{x.name}.{key}".lstrip(".") for x in made.layers for key in keys}


def given(inputs):
    """Inputs as the arguments of a call."""
    return inputs if isinstance(inputs, tuple | dict) else (inputs,)


def call(model, inputs, parameters=None):
    """Logits, of the model or with other parameters."""
    inputs = given(inputs)
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    if parameters is None:
        out = model(*args, **kwargs)
    else:
        out = functional_call(model, parameters, args, kwargs)
    if isinstance(out, dict):
        return out["logits"]
    return getattr(out, "logits", out)


def truth(model, made, inputs):
    """Fisher matrix by its definition, and the same with absolute values."""
    owned = {n: p for n, p in model.named_parameters() if n in own(made)}
    with torch.enable_grad():
        for p in owned.values():
            p.requires_grad_()
        z = call(model, inputs)
    rows = []
    for n in range(len(z)):
        for c in range(z.shape[1]):
            found = torch.autograd.grad(
                z[n, c], list(owned.values()), retain_graph=True, allow_unused=True
            )
            pairs = zip(owned.items(), found, strict=True)
            by_name = {
                k: torch.zeros_like(p) if g is None else g for (k, p), g in pairs
            }
            rows.append(columns(model, made, by_name))
    J = torch.stack(rows).reshape(*z.shape, -1).detach().numpy()
    p = torch.softmax(z, 1).detach().numpy()
    S = np.eye(z.shape[1]) * p[:, :, None] - p[:, :, None] * p[:, None, :]
    both = [(J, S), (np.abs(J), np.abs(S))]
    return [sum(j.T @ s @ j for j, s in zip(*x, strict=True)) / len(J) for x in both]


def true_hessian(model, made, inputs):
    """The Hessian of the mean cross-entropy in the exported layers' parameters."""
    owned = {n: p.detach() for n, p in model.named_parameters() if n in own(made)}
    sizes = [x.numel() for x in owned.values()]

    def loss(theta):
        parts = theta.split(sizes)
        pairs = zip(owned.items(), parts, strict=True)
        parameters = {k: x.reshape(p.shape) for (k, p), x in pairs}
        z = call(model, inputs, parameters)
        return torch.nn.functional.cross_entropy(z, LABELS)

    theta = torch.cat([x.reshape(-1) for x in owned.values()])
    H = torch.func.hessian(loss)(theta)
    places = torch.arange(theta.numel()).split(sizes)
    pairs = zip(owned.items(), places, strict=True)
    where = {k: x.reshape(p.shape) for (k, p), x in pairs}
    order = columns(model, made, where)
    return H[order][:, order].detach().numpy()


def compare(name):
    """Export and compare; return (snapshot or sentence, relative distances, bounds)."""
    model, inputs = small(name)
    inputs = tree_map(lambda x: x.double() if x.is_floating_point() else x, inputs)
    inner = model
    while hasattr(inner, "module") or hasattr(inner, "_orig_mod"):
        inner = getattr(inner, "module", None) or inner._orig_mod
    try:
        made = export(model, loader(inputs), None, progress=False)
    except ValueError as error:
        return str(error), [], []
    G, size = truth(inner, made, inputs)
    layers = [p.shape for p in inner.parameters() if p.ndim > 1]
    k = 8 * path_length((x[0], int(np.prod(x[1:]))) for x in layers)
    found = np.asarray(curvature.fisher(made).matrix())
    offs = [np.linalg.norm(found - G) / np.linalg.norm(G)]
    bounds = [rounding.gamma(k, 2.0**-53) * np.linalg.norm(size) / np.linalg.norm(G)]
    if made.model is not None:
        network, X = models.of_snapshot(made)
        names = [x.name for x in made.layers]
        H = np.asarray(hessian.of_snapshot(made, names))
        radius = 2 * hessian_radius(network, X, made.labels)
        exact = true_hessian(inner, made, inputs)
        offs.append(np.linalg.norm(H - exact, 2) / np.linalg.norm(exact, 2))
        bounds.append(radius / np.linalg.norm(exact, 2))
    return made, offs, bounds


def row(name):
    """One row of the table."""
    made, offs, bounds = compare(name)
    if isinstance(made, str):
        return [f"refused: {made}", *[""] * 4]
    covered = coverage.of_snapshot(made)
    cells = [str(covered)]
    for off, bound in zip(offs, bounds, strict=True):
        cells += [f"{off:.0e}", f"{bound:.0e}"]
    if len(offs) == 1:
        cells += [f"no network: {made.provenance['without_network']}", ""]
    return cells


def main():
    """Print the table."""
    warnings.simplefilter("ignore")
    print(HEAD)
    for name in SMALL:
        print("|", " | ".join([name, *row(name)]), "|", flush=True)
    print(f"\nPyTorch {torch.__version__.split('+')[0]}.")


if __name__ == "__main__":
    main()
