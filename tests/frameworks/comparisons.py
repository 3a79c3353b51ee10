"""One network through `export`, `moment` and `hessian`, against the definitions.

What is not refused gives pairs (distance, bound), both relative to the norm of what is
compared; Fisher matrices of many parameters and Hessians in random directions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from refspec import curvature, hessian, models, rounding
from refspec.exporters import torch as exporter
from refspec.exporters.checking import path_length
from refspec.exporters.torch_network import unwrapped
from refspec.hessian.bounds import hessian_radius
from refspec.kronecker import kfac
from refspec.rows import forming_radius
from support.definitions_networks import (
    hessian_products,
    normed,
    truth,
    wide,
)
from support.published_networks import PUBLISHED
from support.torch_networks import (
    LABELS,
    SMALL,
    loader,
    published,
    small,
    trained_norms,
)

U = 2.0**-53
_DENSE = 1500  # parameters


@dataclass
class Case:
    """A model with inputs and labels, and which parameters or layers are meant."""

    model: nn.Module
    inputs: object
    labels: torch.Tensor
    parameters: object = None
    layers: object = None
    run: object = None  # the logits by another way, where torch's Hessian errs
    classes: int = -1  # the axis of the outputs that they are on

    def batches(self):
        """All samples; those of `SMALL` in two batches."""
        if self.labels is LABELS:
            return loader(self.inputs, self.labels)
        return [(self.inputs, self.labels)]


def case(name):
    """Return a network with inputs and labels."""
    if name in SMALL:
        model, inputs = small(name)
        run = normed if "weight norm" in name else None
        return Case(model, inputs, LABELS, run=run)
    x = PUBLISHED[name]
    model, inputs = x.build()
    with torch.no_grad():
        labels = x.labels(model(wide(inputs)).shape)
    layers = None
    if x.parameters:
        kinds = (nn.Linear, nn.Conv2d)
        layers = [k for k in x.parameters if isinstance(model.get_submodule(k), kinds)]
    return Case(
        *(model, inputs, labels, x.parameters),
        **{"layers": layers or None, "classes": x.classes},
    )


def relative(off, bound, size):
    """A distance and its bound, relative to what they are of unless that is 0."""
    size = size or 1.0
    return float(off / size), float(bound / size)


def compared(found, true, bound):
    """Pair the distance of two arrays with its bound."""
    size = np.linalg.norm(true)
    return relative(np.linalg.norm(np.asarray(found) - true), bound, size)


def directions(P, columns=3):
    return np.random.default_rng(0).standard_normal((P, columns))


def places(model, made):
    """Names of the parameters of an export, and where its columns are in them."""
    every, start, order, names = dict(model.named_parameters()), 0, [], []
    for x in made.layers:
        module = model.get_submodule(x.name)
        held = [k for k in ("weight", "bias") if getattr(module, k) is not None]
        columns = []
        for key in held:
            p = getattr(module, key)
            columns.append(start + np.arange(p.numel()).reshape(len(p), -1))
            start += p.numel()
            names.append(next(n for n, q in every.items() if q is p))
        order.append(np.concatenate(columns, 1).reshape(-1))
    return [every[n] for n in names], np.concatenate(order)


@dataclass
class Exported:
    """What `export` made of a network."""

    made: object
    fisher: tuple
    kfac: dict  # by setting, that of the worst layer
    hessian: tuple = None
    known: str = ""  # how the bound of the Hessian is

    @property
    def pairs(self):
        """All distances with their bounds."""
        more = [] if self.hessian is None else [self.hessian]
        return [self.fisher, *self.kfac.values(), *more]


def compare_export(x):
    """Export a network; return `Exported`, or the sentence by which it is refused."""
    try:
        made = exporter.export(
            *(x.model, x.batches(), None, x.layers),
            **{"progress": False, "dtype": torch.float64},
        )
    except ValueError as error:
        return str(error)
    model = unwrapped(x.model)
    names = [layer.name for layer in made.layers]
    owned, order = places(model, made)
    true = truth(model, x.inputs, owned, names, x.classes)
    true.J = true.J[:, :, order]
    shapes = [p.shape for p in model.parameters() if p.ndim > 1]
    k = 8 * path_length((s[0], int(np.prod(s[1:]))) for s in shapes)
    k *= 1 + int(np.abs(true.logits).max())  # an exponential of them loses as much
    gamma = rounding.gamma(k, U)
    G, P = curvature.fisher(made), len(order)
    V = None if P <= _DENSE else directions(P)
    found = G.matrix() if V is None else G.matvec(V)
    around = None if V is None else np.abs(V)
    bound = gamma * np.linalg.norm(true.fisher(around, size=True))
    fisher = compared(found, true.fisher(V), bound)
    by_setting = {
        setting: max(
            (compare_kfac(made, true, name, setting, gamma) for name in names),
            key=lambda pair: pair[0] / pair[1] if pair[1] else pair[0],
        )
        for setting in ("expand", "reduce")
    }
    curved, known = None, ""
    if made.model is not None:
        curved, known = compare_section(made, model, x, owned, order)
    return Exported(made, fisher, by_setting, curved, known)


def compare_kfac(made, true, name, setting, gamma):
    """Compare a layer's KFAC, left (x) right, through both of its factors."""
    found = kfac(made, name, setting=setting)
    exact, sizes = (true.kfac(name, setting, size=x) for x in (False, True))
    off = bound = 0.0
    norms = [np.linalg.norm(x) for x in exact]
    pairs = zip((found.left, found.right), exact, sizes, norms[::-1], strict=True)
    for mine, theirs, size, other in pairs:
        off += np.linalg.norm(np.asarray(mine) - theirs) * other
        bound += gamma * np.linalg.norm(size) * other
    return relative(off, bound, norms[0] * norms[1])


def compare_section(made, model, x, owned, order):
    """Compare the Hessian of the network that an export holds, in directions."""
    network, X = models.of_snapshot(made)
    names, V = [layer.name for layer in made.layers], directions(len(order))
    if len(V) <= _DENSE:
        found = hessian.of_snapshot(made) @ V
    else:  # in the order of the network
        found = hessian.hessian_vector_product(
            *(network, X, made.labels, V),
            **{"layers": names, "sample_weights": made.sample_weights},
        )
    given = np.empty_like(V)
    given[order] = V
    exact = hessian_products(
        *(model, x.inputs, x.labels, owned, given),
        **{"run": x.run, "classes": x.classes},
    )
    radius = 2 * hessian_radius(network, X, made.labels)
    proved = radius <= rounding.unit_roundoff(X) ** 0.5 * np.linalg.norm(exact)
    if not proved:  # nothing, of a deep network
        radius = 2 * hessian.operator(made).lost
    found = compared(found, exact[order], radius * np.linalg.norm(V))
    return found, "" if proved else "measured"


@dataclass
class Differentiated:
    """What `moment` and `hessian` made of a network; a Hessian may be refused."""

    moment: object
    fisher: tuple
    hessian: object

    @property
    def pairs(self):
        """All distances with their bounds."""
        more = [] if isinstance(self.hessian, str) else [self.hessian]
        return [self.fisher, *more]


def compare_moment(x):
    """Differentiate a network; return `Differentiated`, or the sentence."""
    given = (x.model, x.batches(), x.parameters)
    try:
        found = exporter.moment(*given)
    except ValueError as error:
        return str(error)
    model = unwrapped(x.model)
    every = dict(model.named_parameters())
    chosen = [every[name] for name, _ in found.blocks]
    true = truth(model, x.inputs, chosen, classes=x.classes)
    P = found.shape[1]
    V = None if P <= _DENSE else directions(P)
    size = true.absolute_trace()
    radius = 2 * forming_radius(found.rows, found.trace(), U)
    terms = true.J.shape[0] * true.J.shape[1] + 64
    terms += 8 * int(np.abs(true.logits).max())  # an exponential loses as much
    radius += 2 * rounding.second_moment_radius(terms, size, U)
    if V is None:
        fisher = compared(found.matrix(), true.fisher(), radius)
    else:
        exact = true.fisher(V)
        fisher = compared(found.matvec(V), exact, radius * np.linalg.norm(V))
    try:
        H = exporter.hessian(*given)
    except ValueError as error:
        return Differentiated(found, fisher, str(error))
    V = directions(P)
    exact = hessian_products(
        *(model, x.inputs, x.labels, chosen, V), **{"run": x.run, "classes": x.classes}
    )
    curved = compared(H.dot(V), exact, 2 * H.lost * np.linalg.norm(V))
    return Differentiated(found, fisher, curved)


def compare_large(name):
    """Compare products with G and H of a network of torchvision, in three directions.

    Return the number of parameters, and pairs of Fisher and Hessian.
    """
    torch.manual_seed(0)
    model = trained_norms(published()[name]()).double().eval()
    inputs, labels = torch.randn(2, 3, 64, 64), torch.tensor([2, 0])
    found = exporter.moment(model, [(inputs, labels)])
    chosen = list(model.parameters())
    P, V = found.shape[1], directions(found.shape[1])
    with sdpa_kernel(SDPBackend.MATH):
        z = model(inputs.double())
    p, u = torch.softmax(z, 1).detach(), torch.zeros_like(z, requires_grad=True)
    g = torch.autograd.grad(z, chosen, u, create_graph=True)
    columns = []
    for v in torch.tensor(V).T:
        parts = torch.split(v, [x.numel() for x in chosen])
        parts = [y.reshape(x.shape) for x, y in zip(chosen, parts, strict=True)]
        (T,) = torch.autograd.grad(g, u, parts, retain_graph=True)  # J v
        M = p * T - p * (p * T).sum(1, keepdim=True)
        parts = torch.autograd.grad(z, chosen, M / len(z), retain_graph=True)
        columns.append(torch.cat([x.reshape(-1) for x in parts]))
    true = torch.stack(columns, 1).numpy()
    got, image = found.matvec(V), np.linalg.norm(found.rows.dot(V))
    e = found.rows.forming()
    norm = found.trace() ** 0.5  # at least ||X||
    # X'X V: X is off by e in either factor, in ours and in theirs
    bound = 2 * e * (image + (norm + e) * np.linalg.norm(V))
    bound += 2 * rounding.gamma(found.rows.products, U) * norm * image
    fisher = compared(got, true, bound)
    del g, z, columns, found
    H = exporter.hessian(model, [(inputs, labels)])
    exact = hessian_products(model, inputs, labels, chosen, V)
    curved = compared(H.dot(V), exact, 2 * H.lost * np.linalg.norm(V))
    return P, fisher, curved


def of_another_loss(name):
    """Sentences of `export` and `moment` for the targets of a loss that is another."""
    x = PUBLISHED[name]
    model, inputs, shape = outputs(x)
    return said(model, [(inputs, x.targets(shape))])


def outputs(x):
    """A published model, its inputs, the shape of what it gives."""
    model, inputs = x.build()
    with torch.no_grad():
        return model, inputs, model(wide(inputs)).shape


def said(model, batches):
    """What `export` and `moment` say to batches; None is nothing."""
    doors = (
        lambda: exporter.export(model, batches, None, progress=False),
        lambda: exporter.moment(model, batches),
    )
    found = []
    for door in doors:
        try:
            door()
        except ValueError as error:
            found.append(str(error))
        else:
            found.append(None)
    return found
