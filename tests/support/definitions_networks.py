"""Fisher, KFAC and Hessian of a PyTorch classifier by their definitions, in float64.

The second path of every comparison: the model as it is, one backward pass for each
logit, nothing functional. With J_i the derivative of the logits of sample i,
G = sum_i s_i J_i'(diag p_i - p_i p_i')J_i; errors are the same in what leaves a layer,
its features the inputs, patches by torch's own convolution with kernels that pick one
entry; H V is the gradient of the gradient of the loss in the direction V. Quantities
in absolute values measure what rounding can do to them.
"""

import inspect
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

HOW = {"allow_unused": True, "materialize_grads": True}


def wide(x):
    """Inputs in float64, where they are real."""
    if isinstance(x, torch.Tensor):
        return x.double() if x.is_floating_point() else x
    if isinstance(x, tuple):
        return tuple(map(wide, x))
    return {k: wide(v) for k, v in x.items()}


def output(model, inputs, run=None, classes=-1):
    """Logits (n, C) or (n, S, C), of one logit z those of (0, z).

    `classes` is the axis that they are on in outputs of more than two.
    """
    inner = model
    while hasattr(inner, "_orig_mod"):  # compiled code has no second derivative
        inner = inner._orig_mod
    inputs = wide(inputs)
    if run is not None:
        z = run(inner, inputs)
    elif isinstance(inputs, dict) and takes_names(inner, inputs):
        z = inner(**inputs)
    else:
        z = inner(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    z = z["logits"] if isinstance(z, dict) else z
    if z.shape[1:] in ((), (1,)):
        z = torch.stack([torch.zeros_like(z.reshape(-1)), z.reshape(-1)], 1)
    if z.ndim > 2:
        z = z.movedim(classes, -1)
        z = z.reshape(len(z), -1, z.shape[-1])
    return z


def takes_names(model, inputs):
    """Whether a model takes inputs by their names, not a mapping of them."""
    return set(inputs) <= set(inspect.signature(model.forward).parameters)


@dataclass
class Truth:
    """J (M, C, P), p and logits (M, C) of M samples; by layer features and errors."""

    J: np.ndarray
    p: np.ndarray
    logits: np.ndarray
    features: dict
    errors: dict

    def middle(self):
        """diag p - pp', (M, C, C), nothing cancelled in p (1 - p)."""
        S = -self.p[:, :, None] * self.p[:, None, :]
        every = np.arange(S.shape[1])
        S[:, every, every] = 0
        S[:, every, every] = -S.sum(2)
        return S

    def absolute_trace(self):
        """The trace of G with absolute values in place of all numbers."""
        J = np.abs(self.J)
        return float(np.sum(np.abs(self.middle()) * (J @ J.swapaxes(1, 2)))) / len(J)

    def fisher(self, V=None, size=False):
        """G, or G V; with absolute values in place of all numbers."""
        J, S = self.J, self.middle()
        if size:
            J, S = np.abs(J), np.abs(S)
        total = 0
        for j, s in zip(J, S, strict=True):
            total = total + j.T @ (s @ (j if V is None else j @ V))
        return total / len(J)

    def kfac(self, name, setting, size=False):
        """Return both factors of a layer, errors and features."""
        h, d = self.features[name], self.errors[name]
        if size:
            h, d = np.abs(h), np.abs(d)
        if setting == "reduce":
            h, d = h.mean(1, keepdims=True), d.sum(2, keepdims=True)
        M, T = h.shape[:2]
        w = self.p / M
        left = (d * w[:, :, None, None]).reshape(-1, d.shape[3]).T
        return left @ d.reshape(-1, d.shape[3]), np.einsum("nta,ntb->ab", h, h) / M / T


def seeds(p):
    """p - e_c of every sample and label c, (M, C, C), nothing cancelled."""
    C = p.shape[1]
    e = np.repeat(p[:, None, :], C, 1)
    every = np.arange(C)
    e[:, every, every] = 0
    e[:, every, every] = -e.sum(2)
    return e


class Watched:
    """Modules of a model while it runs: inputs, and leaves added to the outputs."""

    def __init__(self, model, names):
        self.modules = {name: model.get_submodule(name) for name in names}
        self.inputs, self.leaves = {}, {}

    def __enter__(self):
        def watch(name):
            def hook(_, args, out):
                self.inputs[name] = args[0].detach()
                self.leaves[name] = torch.zeros_like(out, requires_grad=True)
                return out + self.leaves[name]

            return hook

        self.handles = [
            x.register_forward_hook(watch(name)) for name, x in self.modules.items()
        ]
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    def features(self, name):
        """Features (n, T, a), a bias as a last column of ones."""
        module, x = self.modules[name], self.inputs[name]
        if not isinstance(module, nn.Linear):
            a = module.weight[0].numel()
            pick = torch.eye(a, dtype=x.dtype).reshape(a, *module.weight.shape[1:])
            x = module._conv_forward(x, pick, None).flatten(2).transpose(1, 2)
        x = x.reshape(len(x), -1, x.shape[-1])
        if module.bias is not None:
            x = torch.cat([x, torch.ones_like(x[..., :1])], 2)
        return x.numpy()

    def rows(self, name, g):
        """What comes back to a module, (T, b)."""
        if not isinstance(self.modules[name], nn.Linear):
            g = g.flatten(1).T
        return g.reshape(-1, g.shape[-1])


def truth(model, inputs, parameters, layers=(), classes=-1):
    """Differentiate every logit in parameters, and in what leaves each layer.

    `parameters` is a list of tensors.
    """
    for x in parameters:
        x.requires_grad_()
    with Watched(model, layers) as seen:
        z = output(model, inputs, classes=classes)
    S = 1 if z.ndim == 2 else z.shape[1]
    z = z.reshape(-1, z.shape[-1])
    M, C = z.shape
    rows, found = [], {name: [] for name in layers}
    leaves = list(seen.leaves.values())
    for i in range(M):
        for c in range(C):
            parts = torch.autograd.grad(
                z[i, c], [*parameters, *leaves], retain_graph=True, **HOW
            )
            rows.append(torch.cat([x.reshape(-1) for x in parts[: len(parameters)]]))
            for name, x in zip(seen.leaves, parts[len(parameters) :], strict=True):
                found[name].append(seen.rows(name, x[i // S]).numpy())
    p = torch.softmax(z, 1).detach().numpy()
    features = {name: np.repeat(seen.features(name), S, 0) for name in layers}
    errors = {}
    for name, each in found.items():
        d = np.stack(each).reshape(M, C, *each[0].shape)  # of the logits
        errors[name] = np.einsum("ick,iktb->ictb", seeds(p), d)
    J = torch.stack(rows).reshape(M, C, -1).numpy()
    return Truth(J, p, z.detach().numpy(), features, errors)


def hessian_products(model, inputs, labels, parameters, V, run=None, classes=-1):
    """H V of the mean cross-entropy of the model as it is."""
    with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
        z = output(model, inputs, run, classes)
        z, y = z.reshape(-1, z.shape[-1]), labels.reshape(-1, 1)
        # -log p of the label with the best logit apart: p - e of a fit has its digits
        best = z.argmax(1, keepdim=True)
        first, is_best = z.gather(1, best), torch.arange(z.shape[1]) == best
        rest = z[~is_best].reshape(len(z), -1) - first
        loss = (torch.log1p(rest.exp().sum(1)) + (first - z.gather(1, y))[:, 0]).mean()
    g = torch.autograd.grad(loss, parameters, create_graph=True, **HOW)
    g = torch.cat([x.reshape(-1) for x in g])
    columns = []
    for v in torch.tensor(V).T:
        if not g.requires_grad:  # a linear function of nothing
            columns.append(torch.zeros_like(g))
            continue
        parts = torch.autograd.grad(g, parameters, v, retain_graph=True, **HOW)
        columns.append(torch.cat([x.reshape(-1) for x in parts]))
    return torch.stack(columns, 1).detach().numpy()


def normed(model, inputs):
    """The logits of a network with weight norm, without torch's: its Hessian errs."""
    found = dict(model.named_parameters())
    g = found.get("0.weight_g", found.get("0.parametrizations.weight.original0"))
    v = found.get("0.weight_v", found.get("0.parametrizations.weight.original1"))
    W = g * v / (v * v).sum(1, keepdim=True).sqrt()
    return model[2](torch.tanh(inputs @ W.T + found["0.bias"]))
