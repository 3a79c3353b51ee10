"""KFAC and EKFAC against curvlinops, nngeometry and BackPACK, on an MLP and a CNN.

Features and errors come from hooks, here. Every bound is the rounding of a chain of
products: gamma times the same quantities with absolute weights, activations replaced by
the identity (their slopes are at most 1).
"""

import copy
import math

import array_api_compat.numpy
import numpy as np
import pytest

from refspec import Layer, rounding, snapshot
from refspec.kronecker import (
    BlockDiagonal,
    KroneckerBasis,
    cfac,
    damped_inverse,
    ekfac,
    factored_tikhonov,
    kfac,
    moments,
)
from refspec.kronecker.conventions import placement
from refspec.kronecker.eigenbasis import diagonalised

torch = pytest.importorskip("torch")
curvlinops = pytest.importorskip("curvlinops")
backpack = pytest.importorskip("backpack")
apply_kfac_mat_prod = pytest.importorskip(
    "backpack.utils.kroneckers"
).apply_kfac_mat_prod
nngeometry_object = pytest.importorskip("nngeometry.object")
nngeometry_metrics = pytest.importorskip("nngeometry.metrics")

pytestmark = pytest.mark.filterwarnings("ignore")
U, C = 2.0**-53, 4
LABELS = np.repeat(np.arange(C), (5, 2, 6, 4))
N = len(LABELS)


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def mlp():
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, C)
    ), torch.randn(N, 7)


def cnn():
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16, C),
    ), torch.randn(N, 2, 5, 5)


def record(model, x, tops):
    """Features (N, T, a) with bias and errors (N, K, T, b) of each linear map."""
    maps = [(n, m) for n, m in model.named_modules() if hasattr(m, "weight")]
    seen = {}

    def hook(name):
        def keep(_, inputs, output):
            output.retain_grad()
            seen[name] = (inputs[0].detach(), output)

        return keep

    handles = [m.register_forward_hook(hook(n)) for n, m in maps]
    output = model(x)
    features, errors = {}, {n: [] for n, _ in maps}
    for k in range(tops.shape[1]):
        model.zero_grad()
        for _, out in seen.values():
            out.grad = None
        output.backward(tops[:, k], retain_graph=True)
        for n, _ in maps:
            g = seen[n][1].grad.reshape(N, seen[n][1].shape[1], -1)
            errors[n].append(g.swapaxes(1, 2).clone())
    for n, m in maps:
        h = seen[n][0]
        if h.ndim == 4:
            h = torch.nn.functional.unfold(
                h, m.kernel_size, padding=m.padding, stride=m.stride
            ).swapaxes(1, 2)
        else:
            h = h[:, None]
        ones = torch.ones(*h.shape[:2], 1)
        features[n] = torch.cat([h, ones], dim=2).numpy()
        errors[n] = torch.stack(errors[n], dim=1).numpy()
    for handle in handles:
        handle.remove()
    return features, errors, output.detach()


def absolute(model):
    """The model with |weights| and without activations: it bounds every chain."""
    bound = copy.deepcopy(model)
    for parameter in bound.parameters():
        parameter.data.abs_()
    keep = [
        m
        if hasattr(m, "weight") or isinstance(m, torch.nn.Flatten)
        else torch.nn.Identity()
        for m in bound
    ]
    return torch.nn.Sequential(*keep)


class Case:
    """A model, its data, its snapshot, and the magnitude of each layer's chains."""

    def __init__(self, build):
        torch.manual_seed(0)
        self.model, self.x = build()
        self.y = torch.as_tensor(LABELS)
        self.loader = [(self.x, self.y)]
        with torch.no_grad():
            z = self.model(self.x)
        self.p = torch.softmax(z, 1)
        tops = self.p[:, None, :] - torch.eye(C)
        self.features, self.errors, z = record(self.model, self.x, tops)
        size = self.p[:, None, :] + torch.eye(C)
        _, self.sizes, _ = record(absolute(self.model), self.x, size)
        fans = sum(p.numel() for p in self.model.parameters())
        self.k = 4 * fans + 8 * N * C * 25 + 8 * float(z.abs().max()) + 8 * C
        self.names = list(self.features)

    def snapshot(self, probabilities=None):
        p = self.p.numpy() if probabilities is None else probabilities
        layers = [Layer(n, self.features[n], self.errors[n]) for n in self.names]
        return snapshot(layers, LABELS, probabilities=p)

    def bounds(self, name, p, loss=1.0):
        """Radii of left, right and their product in refspec's own scaling."""
        m, h = self.sizes[name], self.features[name]
        T = h.shape[1]
        g = rounding.gamma(self.k * loss, U)
        left = T * g * float(np.sum(p[:, :, None, None] * m**2)) / N
        right = g * float(np.sum(h**2)) / N / T
        return left, right, left * right / g * 2


@pytest.fixture(params=[mlp, cnn], ids=["mlp", "cnn"])
def case(request, _double):
    return Case(request.param)


def check(case, name, ours, left, right, p, how, loss=1.0):
    """Both factors within their radii; a factor off by 2 is rejected (the mutant)."""
    dl, dr, _ = case.bounds(name, p, loss)
    for mine, theirs, radius in (
        (ours.left, left, dl * how.left),
        (ours.right, right, dr * how.right),
    ):
        assert np.linalg.norm(mine - theirs) <= radius
        assert np.linalg.norm(2 * mine - theirs) > radius


def joint(weight, bias):
    """A layer's gradient (b, a) with the bias as last column, raveled."""
    return np.ravel(np.concatenate([weight.reshape(len(bias), -1), bias[:, None]], 1))


def frequencies(draws):
    """Label frequencies of draws (M, N): the law whose exact Fisher they estimate."""
    return np.mean(np.eye(C)[np.asarray(draws)], axis=0)


def curvlinops_operator(case, kind="KFACLinearOperator", **options):
    return getattr(curvlinops, kind)(
        case.model,
        torch.nn.CrossEntropyLoss(),
        list(case.model.parameters()),
        case.loader,
        separate_weight_and_bias=False,
        check_deterministic=False,
        **options,
    )


@pytest.mark.parametrize("setting", ["expand", "reduce"])
@pytest.mark.parametrize("fisher", ["exact", "empirical", "monte_carlo"])
def test_curvlinops(case, setting, fisher):
    """Factors, and products with vectors, for all Fishers and both settings."""
    M = 3 if fisher == "monte_carlo" else 1
    peer = curvlinops_operator(
        case,
        fisher_type={"exact": "type-2", "empirical": "empirical"}.get(fisher, "mc"),
        kfac_approx=setting,
        mc_samples=M,
        seed=5,
    )
    peer.compute_kronecker_factors()
    p = case.p.numpy()
    if fisher == "empirical":
        p = frequencies([LABELS])
    elif fisher == "monte_carlo":
        g = torch.Generator().manual_seed(5)
        p = frequencies(
            [case.p.multinomial(1, generator=g).squeeze(1) for _ in range(M)]
        )
    s = case.snapshot(p)
    how = placement("curvlinops", setting, fisher, N=N, T=1, columns=1)
    blocks = []
    for name in case.names:
        options = {"setting": setting, "convention": "curvlinops"}
        ours = kfac(s, name, **options)
        if fisher == "empirical":
            named = kfac(case.snapshot(), name, fisher="empirical", **options)
            assert np.linalg.norm(named.left - ours.left) <= case.bounds(name, p)[0]
        left = peer._gradient_covariances[name].numpy()
        right = peer._input_covariances[name].numpy()
        check(case, name, ours, left, right, p, how)
        blocks.append(ours)
    V = [torch.randn_like(q) for q in case.model.parameters()]
    products = peer @ V
    mine = BlockDiagonal(tuple(blocks)).matvec(
        np.concatenate(
            [joint(w.numpy(), b.numpy()) for w, b in zip(V[::2], V[1::2], strict=True)]
        )
    )
    theirs = np.concatenate(
        [
            joint(w.numpy(), b.numpy())
            for w, b in zip(products[::2], products[1::2], strict=True)
        ]
    )
    radius = sum(case.bounds(n, p)[2] for n in case.names)
    norm = math.sqrt(sum(float((v**2).sum()) for v in V))
    assert np.linalg.norm(mine - theirs) <= radius * norm
    assert np.linalg.norm(2 * mine - theirs) > radius * norm


def check_variances(case, name, Q, R, theirs, p, loss=1.0):
    """EKFAC's eigenvalues in the peer's own basis; a factor 2 is rejected. Radius."""
    mine = moments.variances(
        case.errors[name] @ Q, case.features[name] @ R, p / N, array_api_compat.numpy
    )
    T = case.features[name].shape[1]
    sizes = np.sum(p[:, :, None, None] * case.sizes[name] ** 2, axis=(1, 2, 3))
    sizes = T * sizes * np.sum(case.features[name] ** 2, axis=(1, 2))
    radius = rounding.gamma(case.k * loss, U) * float(np.sum(sizes)) / N
    radius *= mine.size  # a row of Q or R has norm 1, its absolute sum sqrt(side)
    assert np.linalg.norm(mine - theirs) <= radius
    assert np.linalg.norm(2 * mine - theirs) > radius
    return radius


@pytest.mark.parametrize("fisher", ["exact", "empirical"])
def test_curvlinops_ekfac(case, fisher):
    """Corrected eigenvalues in their basis, and the trace in ours."""
    peer = curvlinops_operator(
        case,
        "EKFACLinearOperator",
        fisher_type={"exact": "type-2"}.get(fisher, fisher),
    )
    trace = float(peer.trace)
    p = case.p.numpy() if fisher == "exact" else frequencies([LABELS])
    s, radius, ours = case.snapshot(), 0.0, 0.0
    for name in case.names:
        Q = peer._gradient_covariances_eigenvectors[name].numpy()
        R = peer._input_covariances_eigenvectors[name].numpy()
        theirs = peer._corrected_eigenvalues[name].numpy()
        mine = check_variances(case, name, Q, R, theirs, p)
        radius += mine
        ours += ekfac(s, name, fisher=fisher).trace()
        law = p / N
        values = moments.variances(
            case.errors[name] @ Q, case.features[name] @ R, law, array_api_compat.numpy
        )
        operator = KroneckerBasis(Q, R, values)
        weight, bias = (torch.randn_like(x) for x in parameters(case.model, name))
        V = [torch.zeros_like(q) for q in case.model.parameters()]
        i = 2 * case.names.index(name)
        V[i], V[i + 1] = weight, bias
        v = joint(weight.numpy(), bias.numpy())
        products = peer @ V
        theirs = joint(products[i].numpy(), products[i + 1].numpy())
        away = np.linalg.norm(operator.matvec(v) - theirs)
        assert away <= 4 * mine * np.linalg.norm(v)
    assert abs(trace - ours) <= radius


def test_nngeometry_ekfac(case):
    """Corrected eigenvalues after update_diag: the exact Fisher's, in their basis."""
    data = torch.utils.data.TensorDataset(case.x, case.y)
    loader = torch.utils.data.DataLoader(data, batch_size=N)
    peer = nngeometry_metrics.FIM(
        case.model, loader, nngeometry_object.PMatEKFAC, variant="classif_logits"
    )
    peer.update_diag(loader)
    p = case.p.numpy()
    loss = 4 / float(np.min(1 - np.cumsum(p, axis=1)[:, :-1]))
    bases, values = peer.data
    for name, basis, theirs in zip(
        case.names, bases.values(), values.values(), strict=True
    ):
        R, Q = (x.numpy() for x in basis)
        theirs = theirs.numpy().reshape(len(Q), len(R))
        check_variances(case, name, Q, R, theirs, p, loss)


@pytest.mark.parametrize("fisher", ["exact", "monte_carlo"])
def test_nngeometry(case, fisher):
    """Factors carry T sqrt(k); a triangular root divides by tail probabilities."""
    M, s = 3, case.snapshot()
    p, loss = case.p.numpy(), 1.0
    options = {"variant": "classif_logits"}
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(case.x, case.y), batch_size=N
    )
    if fisher == "exact":
        tails = 1 - np.cumsum(p, axis=1)[:, :-1]
        loss, columns = 4 / float(np.min(tails)), C - 1
        peer = nngeometry_metrics.FIM(
            case.model, loader, nngeometry_object.PMatKFAC, **options
        )
    else:
        columns = M
        torch.manual_seed(3)
        peer = nngeometry_metrics.FIM_MonteCarlo(
            case.model, loader, nngeometry_object.PMatKFAC, trials=M, **options
        )
        torch.manual_seed(3)
        # the loader draws a base seed from the global generator before the labels
        next(iter(loader))
        draws = torch.multinomial(
            torch.exp(torch.log_softmax(case.model(case.x).detach(), 1)),
            M,
            replacement=True,
        )
        p = frequencies(draws.T)
        s = case.snapshot(p)
    for name, (right, left) in zip(case.names, peer.data.values(), strict=True):
        T = case.features[name].shape[1]
        how = placement("nngeometry", "expand", fisher, N=N, T=T, columns=columns)
        ours = kfac(s, name)
        ours = type(ours)(ours.left * how.left, ours.right * how.right)
        if fisher == "exact":
            named = kfac(s, name, convention="nngeometry")
            assert np.array_equal(named.left, ours.left)
            assert np.array_equal(named.right, ours.right)
        check(case, name, ours, left.numpy(), right.numpy(), p, how, loss)
    layers = peer.generator.layer_collection
    V = {
        key: tuple(torch.randn_like(x) for x in parameters(case.model, name))
        for key, name in zip(layers.layers, case.names, strict=True)
    }
    products = peer.mv(nngeometry_object.PVector(layers, dict_repr=V)).to_dict()
    for key, name in zip(layers.layers, case.names, strict=True):
        v, theirs = (joint(*(x.numpy() for x in y[key])) for y in (V, products))
        mine = kfac(s, name).matvec(v)
        radius = case.bounds(name, p, loss)[2] * np.linalg.norm(v)
        assert np.linalg.norm(mine - theirs) <= radius
        assert np.linalg.norm(2 * mine - theirs) > radius


@pytest.mark.parametrize("fisher", ["exact", "monte_carlo"])
def test_backpack(case, fisher):
    """KFLR and KFAC: biases apart, positions summed in both factors."""
    extensions = backpack.extensions
    M, p = 3, case.p.numpy()
    model = backpack.extend(copy.deepcopy(case.model))
    loss = backpack.extend(torch.nn.CrossEntropyLoss())
    kind, field = (
        (extensions.KFLR(), "kflr")
        if fisher == "exact"
        else (extensions.KFAC(mc_samples=M), "kfac")
    )
    value = loss(model(case.x), case.y)
    torch.manual_seed(7)
    with backpack.backpack(kind):
        value.backward()
    if fisher == "monte_carlo":
        torch.manual_seed(7)
        p = frequencies(torch.distributions.Categorical(case.p).sample((M,)))
    s = case.snapshot(p)
    for name in case.names:
        module = dict(model.named_modules())[name]
        left, right = (x.detach().numpy() for x in getattr(module.weight, field))
        ours = kfac(s, name, convention="backpack")
        T = case.features[name].shape[1]
        how = placement("backpack", "expand", fisher, N=N, T=T, columns=1)
        (bias,) = getattr(module.bias, field)
        assert np.linalg.norm(bias.detach().numpy() - left) == 0
        weight = type(ours)(ours.left, ours.right[:-1, :-1])
        check(case, name, weight, left, right, p, how)
        v = torch.randn(left.shape[0] * right.shape[0])
        factors = [x.detach() for x in getattr(module.weight, field)]
        theirs = apply_kfac_mat_prod(factors, v).numpy()
        radius = T * case.bounds(name, p)[2] * float(v.norm())
        assert np.linalg.norm(weight.matvec(v.numpy()) - theirs) <= radius
        assert np.linalg.norm(2 * weight.matvec(v.numpy()) - theirs) > radius


def parameters(model, name):
    """Weight and bias of a layer."""
    module = dict(model.named_modules())[name]
    return module.weight.detach(), module.bias.detach()


@pytest.mark.parametrize("setting", ["expand", "reduce"])
def test_cfac_is_the_peers_kfac_of_every_class(case, setting):
    """No library has CFAC; its terms are their KFAC of one class's samples."""
    p = case.p.numpy()
    for c in range(C):
        mine = torch.as_tensor(np.flatnonzero(c == LABELS))
        peer = curvlinops.KFACLinearOperator(
            case.model,
            torch.nn.CrossEntropyLoss(),
            list(case.model.parameters()),
            [(case.x[mine], case.y[mine])],
            separate_weight_and_bias=False,
            check_deterministic=False,
            fisher_type="type-2",
            kfac_approx=setting,
        )
        peer.compute_kronecker_factors()
        share = len(mine) / N
        for name in case.names:
            ours = cfac(case.snapshot(), name, setting=setting)
            assert abs(ours.coefficients[c] - share) <= rounding.gamma(N + 2, U)
            left, right, _ = (x / share for x in case.bounds(name, p))
            theirs = peer._gradient_covariances[name].numpy()
            assert np.linalg.norm(ours.lefts[c] - theirs) <= left
            assert np.linalg.norm(2 * ours.lefts[c] - theirs) > left
            theirs = peer._input_covariances[name].numpy()
            assert np.linalg.norm(ours.rights[c] - theirs) <= right
            assert np.linalg.norm(2 * ours.rights[c] - theirs) > right


@pytest.mark.parametrize("exact", [False, True], ids=["split", "exact"])
def test_damped_inverses_of_curvlinops(case, exact):
    """K10: Martens and Grosse's split, and the inverse of KFAC + lambda I."""
    damping, p, s = 0.05, case.p.numpy(), case.snapshot()
    peer = curvlinops.KFACInverseLinearOperator(
        curvlinops_operator(case, fisher_type="type-2"),
        damping=damping,
        use_heuristic_damping=not exact,
        use_exact_damping=exact,
    )
    V = [torch.randn_like(q) for q in case.model.parameters()]
    products = peer @ V
    for i, name in enumerate(case.names):
        one = kfac(s, name)
        if exact:
            inverse = damped_inverse(diagonalised(one), damping)
        else:
            inverse = factored_tikhonov(one, damping)
        v, theirs = (
            joint(*(x.numpy() for x in y[2 * i : 2 * i + 2])) for y in (V, products)
        )
        mine = inverse.matvec(v)
        # both matrices are at least lambda: |A^-1 - B^-1| <= |A - B| / lambda^2
        size = (np.linalg.norm(one.left) + 1) * (np.linalg.norm(one.right) + 1)
        solver = rounding.gamma(40 * one.dimension, U) * size * (1 + size / damping)
        radius = 8 * (case.bounds(name, p)[2] + solver) / damping**2
        radius *= np.linalg.norm(v)
        assert np.linalg.norm(mine - theirs) <= radius
        assert np.linalg.norm(2 * mine - theirs) > radius
