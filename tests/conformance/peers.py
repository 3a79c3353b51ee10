"""What is asked of each peer: an operator, eigenvalues or a density, and of what.

Every function takes a Case and calls an assertion of `refspec.testing`. A missing
library raises ImportError.
"""

import inspect
import tempfile
import unittest.mock

import numpy as np
import torch

import refspec
from refspec.testing import (
    Agreement,
    assert_density,
    assert_operator,
    assert_spectrum,
    assert_trace,
)
from refspec.testing.accuracy import accuracy
from refspec.testing.inputs import order_places
from refspec.testing.questions import ask, operator

QUESTIONS = {}


KNOWN = ("mlp", "cnn", "norm", "residual")  # whose Hessian refspec has, of layers
WHOLE = ("mlp", "cnn", "residual")  # those in which layers have all parameters


def asks(package, question, only=None):
    """Register a question under the distribution's name, of some networks or all."""

    def register(function):
        QUESTIONS[package, question] = function, only
        return function

    return register


def _operator(case, A, of, **how):
    """Compare a matrix or a product of all parameters."""
    like, (expected, order) = torch.zeros(0, dtype=torch.float64), case.expected
    return assert_operator(A, expected, of=of, **{"order": order, "like": like, **how})


def _layers(case, A, of):
    """Compare a matrix or a product of the layers' parameters, or of all."""
    like, at = torch.zeros(0, dtype=torch.float64), case.covered
    if torch.is_tensor(A) and len(A) == len(at):
        A = A[at][:, at]
    return assert_operator(A, case.snapshot, of=of, order="torch", like=like)


def _among_all(case, product):
    """Turn a product with all parameters into one with those of layers."""
    at = case.covered

    def apply(v):
        whole = torch.zeros(len(at), dtype=v.dtype)
        whole[at] = v
        return product(whole)[at]

    return apply


def _in_parts(parameters, product):
    """Turn a product of lists, one tensor a parameter, into one of vectors."""
    shapes = [p.shape for p in parameters]
    sizes = [p.numel() for p in parameters]

    def apply(v):
        parts = zip(v.split(sizes), shapes, strict=True)
        out = product([x.reshape(s) for x, s in parts])
        return torch.cat([x.detach().reshape(-1) for x in out])

    return apply


def _loader(case):
    """Return the samples as one batch of a torch loader."""
    data = torch.utils.data.TensorDataset(case.X, case.y)
    return torch.utils.data.DataLoader(data, batch_size=len(case.X))


# curvlinops

LINEAR = {
    "Fisher (GGN)": ("GGNLinearOperator", "gauss_newton"),
    "empirical Fisher": ("EFLinearOperator", "empirical_fisher"),
}


def _curvlinops(kind, case, parameters, **options):
    import curvlinops

    # lists of parameters up to 3.0.1, dictionaries after it
    lists = "kfoc" not in dir(curvlinops)
    return getattr(curvlinops, kind)(
        case.model,
        torch.nn.CrossEntropyLoss(),
        list(parameters.values()) if lists else parameters,
        case.batch,
        check_deterministic=False,
        **options,
    )


for _question, (_kind, _of) in LINEAR.items():

    @asks("curvlinops-for-pytorch", _question)
    def _(case, kind=_kind, of=_of):
        A = _curvlinops(kind, case, dict(case.model.named_parameters()))
        return _operator(case, lambda v: A @ v, of)


@asks("curvlinops-for-pytorch", "Hessian", KNOWN)
def _(case):
    A = _curvlinops("HessianLinearOperator", case, case.layers)
    return _layers(case, lambda v: A @ v, "hessian")


TOGETHER = {"fisher_type": "type-2", "separate_weight_and_bias": False}
for _question, _kind, _of, _how in (
    ("KFAC", "KFACLinearOperator", "kfac", {"fisher_type": "type-2"}),
    ("KFAC, weight and bias together", "KFACLinearOperator", "kfac", TOGETHER),
    ("EKFAC", "EKFACLinearOperator", "ekfac", TOGETHER),
):

    @asks("curvlinops-for-pytorch", _question)
    def _(case, kind=_kind, of=_of, how=_how):
        A = _curvlinops(kind, case, case.layers, **how)
        return _layers(case, lambda v: A @ v, of)


@asks("curvlinops-for-pytorch", "KFOC, weight and bias together")
def _(case):
    """The nearest Kronecker product of each block, by the definition: an SVD of it."""
    A = _curvlinops("KFOCLinearOperator", case, case.layers, **TOGETHER)
    P = sum(p.numel() for p in case.layers.values())
    dense = (A @ torch.eye(P, dtype=torch.float64)).numpy()
    places = _torch_places(case)
    return _nearest(case, dense[np.ix_(places, places)])


def _nearest(case, found):
    """Compare a block-diagonal matrix with refspec's blocks as near as can be."""
    start, off, closest = 0, 0.0, 0.0
    for layer in case.snapshot.layers:
        b, a = layer.errors.shape[3], layer.features.shape[2]
        stop = start + a * b
        F = np.asarray(refspec.fisher(case.snapshot, [layer.name]).matrix())
        mine = found[start:stop, start:stop]
        turned = F.reshape(b, a, b, a).transpose(0, 2, 1, 3).reshape(b * b, a * a)
        U, s, V = np.linalg.svd(turned, full_matrices=False)
        best = s[0] * np.outer(U[:, 0], V[0]).reshape(b, b, a, a)
        best = best.transpose(0, 2, 1, 3).reshape(a * b, a * b)
        off, closest = (
            np.hypot(off, np.linalg.norm(mine - best)),
            max(closest, s[1] / s[0]),
        )
        start = stop
    question = ask(case.snapshot, "fisher", None, "expand")
    # the top singular pair turns by what the matrix moves, over its gap
    radius = accuracy(question, 2.0**-53).radius * 2 / (1 - closest)
    if not off <= radius:
        raise AssertionError(f"distance {off:.3g} of {radius:.3g}: not the nearest")
    return Agreement(off, radius, 0.0, "the nearest Kronecker product")


@asks("curvlinops-for-pytorch", "spectral density of the Hessian", WHOLE)
def _(case):
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    torch.manual_seed(0)
    A = _curvlinops("HessianLinearOperator", case, case.layers)
    runs = [fast_lanczos(A, 60) for _ in range(2)]
    nodes, vectors = (np.stack([np.asarray(x[k]) for x in runs]) for k in (0, 1))
    return assert_density(nodes, vectors, case.snapshot, of="hessian")


# nngeometry


def _nngeometry(case, kind, **how):
    from nngeometry import object as kinds
    from nngeometry.metrics import FIM

    loader, before = _loader(case), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        how["variant"] = "classif_logits"
        made = FIM(case.model, loader, getattr(kinds, kind), **how)
        return made.to_torch().detach()
    finally:
        torch.set_default_dtype(before)


@asks("nngeometry", "Fisher (GGN)")
def _(case):
    return _operator(case, _nngeometry(case, "PMatDense"), "fisher")


@asks("nngeometry", "KFAC")
def _(case):
    from nngeometry.layercollection import LayerCollection

    chosen, modules = LayerCollection(), dict(case.model.named_modules())
    for layer in case.snapshot.layers:
        chosen.add_layer_from_model(case.model, modules[layer.name])
    return _layers(case, _nngeometry(case, "PMatKFAC", layer_collection=chosen), "kfac")


# BackPACK and ViViT


@asks("backpack-for-pytorch", "Fisher (GGN)")
def _(case):
    from backpack.hessianfree.ggnvp import ggn_vector_product

    def product(parts):
        output = case.model(case.X)
        loss = torch.nn.functional.cross_entropy(output, case.y)
        return ggn_vector_product(loss, output, case.model, parts)

    return _operator(case, _in_parts(case.parameters, product), "gauss_newton")


@asks("backpack-for-pytorch", "Hessian", KNOWN)
def _(case):
    from backpack.hessianfree.hvp import hessian_vector_product

    chosen = list(case.layers.values())

    def product(parts):
        return hessian_vector_product(case.loss, chosen, parts)

    return _layers(case, _in_parts(chosen, product), "hessian")


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
    for name, p in model.named_parameters():
        if name in case.layers:
            block = p.kflr[0] if len(p.kflr) == 1 else torch.kron(p.kflr[0], p.kflr[1])
            blocks.append(block)
    return _layers(case, torch.block_diag(*blocks), "kfac")


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
    return assert_spectrum(top, case.expected[0], of="gauss_newton")


@asks("vivit-for-pytorch", "eigenvalues of the Fisher, torch.symeig restored")
def _(case):
    def symeig(A, eigenvectors=False, **_):
        values = torch.linalg.eigvalsh(A)
        return tuple(torch.linalg.eigh(A)) if eigenvectors else (values, None)

    with unittest.mock.patch.object(torch.Tensor, "symeig", symeig):
        return _vivit(case)


# Top eigenvalues and densities of the Hessian


def _ritz(case, values, vectors, of="hessian"):
    """Compare Ritz values (r,); their vectors, one a row, make a diagnosis sharper."""
    V = np.stack([np.asarray(x, dtype=np.float64) for x in vectors], axis=1)
    values = np.asarray(values, dtype=np.float64)
    return assert_spectrum(values, case.snapshot, of=of, vectors=V, order="torch")


def _torch_places(case):
    """Return where refspec's parameters are in torch's order."""
    return order_places(ask(case.snapshot, "fisher", None, "expand"), "torch")


@asks("pyhessian", "top 3 eigenvalues of the Hessian", WHOLE)
def _(case):
    from pyhessian import hessian as pyhessian

    torch.manual_seed(0)
    made = pyhessian(
        case.model, torch.nn.CrossEntropyLoss(), data=(case.X, case.y), cuda=False
    )
    values, vectors = made.eigenvalues(maxIter=2000, tol=1e-13, top_n=3)
    flat = [torch.cat([x.reshape(-1) for x in v]).numpy() for v in vectors]
    return _ritz(case, values, flat)


@asks("pyhessian", "spectral density of the Hessian", WHOLE)
def _pyhessian_density(case):
    from pyhessian import hessian as pyhessian

    torch.manual_seed(0)
    made = pyhessian(
        case.model, torch.nn.CrossEntropyLoss(), data=(case.X, case.y), cuda=False
    )
    nodes, weights = made.density(iter=60, n_v=2)  # of a float32 tridiagonal matrix
    return assert_density(
        np.asarray(nodes),
        np.asarray(weights),
        case.snapshot,
        of="hessian",
        draws="rademacher",
        dtype="float32",
    )


@asks("pyhessian", "spectral density of the Hessian, torch.eig restored", WHOLE)
def _(case):
    def eig(T, eigenvectors=True):  # noqa: ARG001
        values, vectors = torch.linalg.eigh(T)
        return torch.stack([values, 0 * values], 1), vectors

    with unittest.mock.patch.object(torch, "eig", eig):
        return _pyhessian_density(case)


def _things(case, kind):
    import hessian_eigenthings as things

    entropy = torch.nn.functional.cross_entropy
    if kind == "Hessian":
        loss = things.supervised_loss(entropy)
        return things.HessianOperator(case.model, case.batch, loss)
    if kind == "empirical Fisher":
        loss = things.supervised_per_sample_loss(entropy)
        return things.EmpiricalFisherOperator(case.model, case.batch, loss)
    loss, how = things.supervised_loss_of_output(entropy), {}
    # after 1.0.0a5 by finite differences, if not told otherwise
    choice = "loss_hvp" in inspect.signature(things.GGNOperator).parameters
    if choice and kind == "GGN, differentiated":
        how = {"loss_hvp": "autograd"}
    elif choice:
        loss = things.loss_fns.standard.cross_entropy_loss_of_output()
    return things.GGNOperator(
        case.model, case.batch, things.supervised_forward, loss, **how
    )


for _kind, _of in (
    ("GGN", "gauss_newton"),
    ("GGN, differentiated", "gauss_newton"),
    ("empirical Fisher", "empirical_fisher"),
):

    @asks("hessian-eigenthings", _kind)
    def _(case, kind=_kind, of=_of):
        A = _things(case, kind)
        return _operator(case, A.matvec, of)


@asks("hessian-eigenthings", "Hessian", KNOWN)
def _(case):
    A = _things(case, "Hessian")
    return _layers(case, _among_all(case, A.matvec), "hessian")


for _question, _how in (
    ("top 3 eigenvalues of the Hessian, k = 3", {}),
    ("top 3 eigenvalues of the Hessian, max_iter = 60", {"max_iter": 60}),
):

    @asks("hessian-eigenthings", _question, WHOLE)
    def _(case, how=_how):
        import hessian_eigenthings as things

        how = {"reorthogonalize": True, **how} if how else how
        found = things.lanczos(_things(case, "Hessian"), k=3, seed=0, **how)
        return _ritz(case, found.eigenvalues, found.eigenvectors)


@asks("hessian-eigenthings", "trace of the GGN, Hutch++")
def _(case):
    import hessian_eigenthings as things

    A = _things(case, "GGN, differentiated")
    found = things.hutch_plus_plus(A, num_matvecs=900, seed=0)
    how = {"of": "gauss_newton", "draws": "rademacher", "probes": 300}
    return assert_trace(found.estimate, case.expected[0], **how)


@asks("hessian-eigenthings", "spectral density of the Hessian", WHOLE)
def _(case):
    import hessian_eigenthings as things

    A = _things(case, "Hessian")
    found = things.spectral_density(A, num_runs=3, lanczos_steps=60, seed=0)
    nodes, weights = (
        np.asarray(x, dtype=np.float64)
        for x in (found.raw_eigenvalues, found.raw_weights)
    )
    return assert_density(nodes, weights, case.snapshot, of="hessian")


@asks("hessian-eigenthings", "Hessian, two gloo ranks of half the samples each", WHOLE)
def _(case):
    """Products of either rank with a few vectors: both must be the whole's."""
    P = sum(p.numel() for p in case.parameters)
    Z = torch.as_tensor(np.random.default_rng(0).standard_normal((P, 4)))
    with tempfile.TemporaryDirectory() as folder:
        place = f"file://{folder}/store"
        arguments = (place, case.model, case.X, case.y, Z, folder)
        torch.multiprocessing.spawn(_rank, arguments, nprocs=2)
        found = [torch.load(f"{folder}/{k}.pt").numpy() for k in range(2)]
    (seen, *_), places = found, _torch_places(case)
    question = ask(case.snapshot, "hessian", None, "expand")
    true = np.empty_like(seen)
    true[places] = operator(question).apply(Z.numpy()[places])
    off = max(np.linalg.norm(x - true) for x in found) / np.linalg.norm(Z)
    radius = accuracy(question, 2.0**-53).radius
    if not off <= radius:
        raise AssertionError(f"distance {off:.3g} of {radius:.3g}")
    return Agreement(off, radius, 0.0, "of both ranks")


def _rank(rank, place, model, X, y, Z, folder):
    """Run one rank on every second sample and save its products."""
    import hessian_eigenthings as things

    torch.distributed.init_process_group(
        "gloo", init_method=place, rank=rank, world_size=2
    )
    loss = things.supervised_loss(torch.nn.functional.cross_entropy)
    A = things.DDPHessianOperator(model, [(X[rank::2], y[rank::2])], loss)
    out = torch.stack([A.matvec(z.contiguous()) for z in Z.T], dim=1)
    torch.save(out.detach(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


# JAX: matfree and kfac-jax


@asks("matfree", "spectral density of the Hessian", WHOLE)
def _(case):
    import jax
    from matfree import decomp
    from networks_in_jax import of_case, to_torch

    with jax.enable_x64(True):
        forward, weights, X = of_case(case)
        at, back = jax.flatten_util.ravel_pytree(weights)
        y = jax.numpy.asarray(case.y.numpy())

        def loss(v):
            log_p = jax.nn.log_softmax(forward(back(v), X))
            return -jax.numpy.mean(log_p[jax.numpy.arange(len(y)), y])

        slope = jax.grad(loss)
        tridiagonal = decomp.tridiag_sym(30, reortho="full")
        start = jax.random.normal(jax.random.PRNGKey(0), at.shape)
        made = tridiagonal(lambda v: jax.jvp(slope, (at,), (v,))[1], start)
        nodes, U = np.linalg.eigh(np.asarray(made.J_small))
        z = torch.cat([to_torch(x).reshape(-1) for x in back(start)])
    how = {"of": "hessian", "order": "torch", "vectors": z[:, None]}
    return assert_density(nodes, U[0] ** 2, case.snapshot, **how)


def _kfac_jax(case):
    """Return the loss as kfac-jax is told of it, its arguments and its parameters."""
    import jax
    import kfac_jax
    from networks_in_jax import of_case

    jnp, (forward, weights, X) = jax.numpy, of_case(case)

    def loss(weights, batch):
        logits = forward(weights, batch[0])
        kfac_jax.register_softmax_cross_entropy_loss(logits, targets=batch[1])
        own = jnp.arange(len(logits)), batch[1]
        return -jnp.mean(jax.nn.log_softmax(logits)[own])

    return loss, (weights, (X, jnp.asarray(case.y.numpy())))


def _in_jax(case, product):
    """Turn a product of lists in JAX's layouts into one of torch's vectors."""
    from networks_in_jax import to_jax, to_torch

    def parts(tensors):
        return [to_torch(x) for x in product([to_jax(x) for x in tensors])]

    return _in_parts(case.parameters, parts)


for _question, _kind, _of in (
    ("Fisher, products", "multiply_fisher", "fisher"),
    ("GGN, products", "multiply_ggn", "gauss_newton"),
    ("Hessian, products", "multiply_hessian", "hessian"),
):

    @asks("kfac-jax", _question, KNOWN if _of == "hessian" else None)
    def _(case, kind=_kind, of=_of):
        import jax
        import kfac_jax

        with jax.enable_x64(True):
            loss, arguments = _kfac_jax(case)
            multiply = getattr(kfac_jax.ImplicitExactCurvature(loss), kind)
            multiply = jax.jit(multiply)
            product = _in_jax(case, lambda v: multiply(arguments, v))
            if of == "hessian":
                return _layers(case, _among_all(case, product), of)
            return _operator(case, product, of)


@asks("kfac-jax", "KFAC")
def _(case):
    """One update of its moving averages from nothing: the factors of this batch."""
    import jax
    import kfac_jax

    with jax.enable_x64(True):
        loss, arguments = _kfac_jax(case)
        made = kfac_jax.BlockDiagonalCurvature(
            loss, default_estimation_mode="fisher_exact"
        )
        key, N = jax.random.PRNGKey(0), len(case.X)
        state = made.init(key, arguments, None, None)
        state = made.update_curvature_matrix_estimate(
            state, 0.0, 1.0, 0.0, N, key, arguments
        )

        def multiply(v):
            return made.multiply_matpower(state, v, 0.0, 1, True, False, None)

        product = _in_jax(case, jax.jit(multiply))
        return _layers(case, _among_all(case, product), "kfac")


def _laplace(case, kind):
    import laplace

    made = getattr(laplace, kind)(case.model, "classification")
    made.fit(_loader(case))
    return made


@asks("laplace-torch", "Fisher (GGN), full Laplace, to float32")
def _(case):
    made = _laplace(case, "FullLaplace")
    # a log-likelihood is a sum over samples, not a mean: divided by N here
    return _operator(case, made.H / len(case.X), "gauss_newton", dtype="float32")


@asks("laplace-torch", "KFAC, Kronecker Laplace")
def _(case):
    made = _laplace(case, "KronLaplace")
    return _layers(case, made.H.to_matrix() / len(case.X), "kfac")
