"""What is asked of each peer: an operator, eigenvalues or a density, and of what.

Every function takes a Case and calls an assertion of `refspec.testing`; ORDER "torch"
is weight, then bias, layer by layer. A missing library raises ImportError.
"""

import unittest.mock

import numpy as np
import torch

from refspec import curvature, hessian, models
from refspec.testing import assert_density, assert_operator, assert_spectrum

QUESTIONS = {}


def asks(package, question, only=None):
    """Register a question under the distribution's name."""

    def register(function):
        QUESTIONS[package, question] = function, only
        return function

    return register


def _operator(case, A, of, **how):
    like = torch.zeros(0, dtype=torch.float64)
    return assert_operator(
        A, case.snapshot, of=of, **{"order": "torch", "like": like, **how}
    )


def _in_parts(case, product):
    """Turn a product of lists, one tensor a parameter, into one of vectors."""
    shapes = [p.shape for p in case.parameters]
    sizes = [p.numel() for p in case.parameters]

    def apply(v):
        parts = zip(v.split(sizes), shapes, strict=True)
        out = product([x.reshape(s) for x, s in parts])
        return torch.cat([x.detach().reshape(-1) for x in out])

    return apply


def _loader(case):
    """Return the samples as one batch of a torch loader."""
    data = torch.utils.data.TensorDataset(case.X, case.y)
    return torch.utils.data.DataLoader(data, batch_size=len(case.X))


def _dense(case, of):
    """Return refspec's own dense matrix, for the residuals of Ritz vectors."""
    if of == "hessian":
        section = case.snapshot.model
        network = models.from_section(section)
        return hessian.hessian(network, section.inputs, case.snapshot.labels)
    return curvature.fisher(case.snapshot).matrix()


# curvlinops

LINEAR = {
    "Fisher (GGN)": ("GGNLinearOperator", "gauss_newton"),
    "Hessian": ("HessianLinearOperator", "hessian"),
    "empirical Fisher": ("EFLinearOperator", "empirical_fisher"),
}


def _curvlinops(kind, case, **options):
    import curvlinops

    return getattr(curvlinops, kind)(
        case.model,
        torch.nn.CrossEntropyLoss(),
        case.parameters,
        case.batch,
        check_deterministic=False,
        **options,
    )


for _question, (_kind, _of) in LINEAR.items():

    @asks("curvlinops-for-pytorch", _question)
    def _(case, kind=_kind, of=_of):
        A = _curvlinops(kind, case)
        return _operator(case, lambda v: A @ v, of)


@asks("curvlinops-for-pytorch", "KFAC")
def _(case):
    A = _curvlinops("KFACLinearOperator", case, fisher_type="type-2")
    return _operator(case, lambda v: A @ v, "kfac")


@asks("curvlinops-for-pytorch", "EKFAC")
def _(case):
    A = _curvlinops(
        "EKFACLinearOperator",
        case,
        fisher_type="type-2",
        separate_weight_and_bias=False,
    )
    return _operator(case, lambda v: A @ v, "ekfac")


@asks("curvlinops-for-pytorch", "spectral density of the Hessian")
def _(case):
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    torch.manual_seed(0)
    A = _curvlinops("HessianLinearOperator", case)
    nodes, vectors = fast_lanczos(A, 30)
    weights = vectors[0] ** 2
    return assert_density(nodes, weights, case.snapshot, of="hessian")


# nngeometry


def _nngeometry(case, kind):
    from nngeometry import object as kinds
    from nngeometry.metrics import FIM

    loader, before = _loader(case), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        made = FIM(case.model, loader, getattr(kinds, kind), variant="classif_logits")
        return made.to_torch().detach()
    finally:
        torch.set_default_dtype(before)


for _question, _kind, _of in (
    ("Fisher (GGN)", "PMatDense", "fisher"),
    ("KFAC", "PMatKFAC", "kfac"),
):

    @asks("nngeometry", _question)
    def _(case, kind=_kind, of=_of):
        return _operator(case, _nngeometry(case, kind), of)


# BackPACK and ViViT


@asks("backpack-for-pytorch", "Fisher (GGN)")
def _(case):
    from backpack.hessianfree.ggnvp import ggn_vector_product

    def product(parts):
        output = case.model(case.X)
        loss = torch.nn.functional.cross_entropy(output, case.y)
        return ggn_vector_product(loss, output, case.model, parts)

    return _operator(case, _in_parts(case, product), "gauss_newton")


@asks("backpack-for-pytorch", "Hessian")
def _(case):
    from backpack.hessianfree.hvp import hessian_vector_product

    def product(parts):
        return hessian_vector_product(case.loss, case.parameters, parts)

    return _operator(case, _in_parts(case, product), "hessian")


@asks("backpack-for-pytorch", "KFAC")
def _(case):
    """KFLR: Kronecker factors of the exact Fisher, weight and bias apart."""
    from copy import deepcopy

    from backpack import backpack, extend, extensions

    model, loss = (
        extend(deepcopy(case.model)),
        extend(torch.nn.CrossEntropyLoss()),
    )
    with backpack(extensions.KFLR()):
        loss(model(case.X), case.y).backward()
    blocks = []
    for p in model.parameters():
        block = p.kflr[0] if len(p.kflr) == 1 else torch.kron(p.kflr[0], p.kflr[1])
        blocks.append(block)
    return _operator(case, torch.block_diag(*blocks), "kfac")


@asks("vivit-for-pytorch", "eigenvalues of the Fisher (GGN)")
def _vivit(case):
    from copy import deepcopy

    from backpack import backpack, extend
    from vivit.linalg.eigvalsh import EigvalshComputation

    model, loss = (
        extend(deepcopy(case.model)),
        extend(torch.nn.CrossEntropyLoss()),
    )
    work = EigvalshComputation()
    group = [{"params": list(model.parameters())}]
    value = loss(model(case.X), case.y)
    hook = work.get_extension_hook(group)
    with backpack(work.get_extension(), extension_hook=hook):
        value.backward()
    values = work.get_result(group[0])
    P = sum(p.numel() for p in case.parameters)
    top = torch.sort(values, descending=True).values[:P]
    return assert_spectrum(top, case.snapshot, of="gauss_newton")


@asks("vivit-for-pytorch", "eigenvalues of the Fisher, torch.symeig restored")
def _(case):
    def symeig(A, eigenvectors=False, **_):
        values = torch.linalg.eigvalsh(A)
        return tuple(torch.linalg.eigh(A)) if eigenvectors else (values, None)

    with unittest.mock.patch.object(torch.Tensor, "symeig", symeig):
        return _vivit(case)


# Top eigenvalues and densities of the Hessian


def _ritz(case, values, vectors):
    """Compare Ritz values, allowing the residuals that their vectors have."""
    H = _dense(case, "hessian")
    places = _torch_places(case)
    values = np.asarray(values, dtype=np.float64)
    left = []
    for value, vector in zip(values, vectors, strict=True):
        v = np.asarray(vector, dtype=np.float64)[places]
        v = v / np.linalg.norm(v)
        left.append(np.linalg.norm(H @ v - value * v))
    return assert_spectrum(
        values, case.snapshot, of="hessian", residuals=np.asarray(left)
    )


def _torch_places(case):
    """Return where refspec's parameters are in torch's order."""
    from refspec.testing.inputs import order_places
    from refspec.testing.questions import ask

    return order_places(ask(case.snapshot, "hessian", None, "expand"), "torch")


@asks("pyhessian", "top 3 eigenvalues of the Hessian")
def _(case):
    from pyhessian import hessian as pyhessian

    torch.manual_seed(0)
    made = pyhessian(
        case.model, torch.nn.CrossEntropyLoss(), data=(case.X, case.y), cuda=False
    )
    values, vectors = made.eigenvalues(maxIter=200, tol=1e-6, top_n=3)
    flat = [torch.cat([x.reshape(-1) for x in v]).numpy() for v in vectors]
    return _ritz(case, values, flat)


@asks("pyhessian", "spectral density of the Hessian")
def _pyhessian_density(case):
    from pyhessian import hessian as pyhessian

    torch.manual_seed(0)
    made = pyhessian(
        case.model, torch.nn.CrossEntropyLoss(), data=(case.X, case.y), cuda=False
    )
    nodes, weights = made.density(iter=30, n_v=1)
    return assert_density(
        np.asarray(nodes),
        np.asarray(weights),
        case.snapshot,
        of="hessian",
        draws="rademacher",
    )


@asks("pyhessian", "spectral density of the Hessian, torch.eig restored")
def _(case):
    def eig(T, eigenvectors=True):  # noqa: ARG001
        values, vectors = torch.linalg.eigh(T)
        return torch.stack([values, 0 * values], 1), vectors

    with unittest.mock.patch.object(torch, "eig", eig):
        return _pyhessian_density(case)


@asks("hessian-eigenthings", "top 3 eigenvalues of the Hessian")
def _(case):
    import hessian_eigenthings as things

    loss = things.supervised_loss(torch.nn.functional.cross_entropy)
    operator = things.HessianOperator(case.model, case.batch, loss)
    found = things.lanczos(operator, k=3, seed=0)
    vectors = np.asarray(found.eigenvectors)
    vectors = vectors if len(vectors) == 3 else vectors.T
    return _ritz(case, found.eigenvalues, vectors)


@asks("matfree", "spectral density of the Hessian", only="mlp")
def _(case):
    import jax
    from matfree import decomp

    jnp = jax.numpy
    with jax.enable_x64(True):
        X, y = jnp.asarray(case.X.numpy()), jnp.asarray(case.y.numpy())
        weights = [jnp.asarray(p.detach().numpy()) for p in case.parameters]

        def loss(weights):
            h = X
            for k in range(0, len(weights), 2):
                h = (jax.nn.relu(h) if k else h) @ weights[k].T + weights[k + 1]
            return -jnp.mean(jax.nn.log_softmax(h)[jnp.arange(len(y)), y])

        at, back = jax.flatten_util.ravel_pytree(weights)
        slope = jax.grad(lambda v: loss(back(v)))
        tridiagonal = decomp.tridiag_sym(30, reortho="full")
        start = jax.random.normal(jax.random.PRNGKey(0), at.shape)
        made = tridiagonal(lambda v: jax.jvp(slope, (at,), (v,))[1], start)
        nodes, vectors = np.linalg.eigh(np.asarray(made.J_small))
    return assert_density(nodes, vectors[0] ** 2, case.snapshot, of="hessian")


def _laplace(case, kind):
    import laplace

    made = getattr(laplace, kind)(case.model, "classification")
    made.fit(_loader(case))
    return made


@asks("laplace-torch", "Fisher (GGN), full Laplace, to float32", only="mlp")
def _(case):
    made = _laplace(case, "FullLaplace")
    # a log-likelihood is a sum over samples, not a mean: divided by N here
    return _operator(case, made.H / len(case.X), "gauss_newton", dtype="float32")


@asks("laplace-torch", "KFAC, Kronecker Laplace", only="mlp")
def _(case):
    made = _laplace(case, "KronLaplace")
    return _operator(case, made.H.to_matrix() / len(case.X), "kfac")
