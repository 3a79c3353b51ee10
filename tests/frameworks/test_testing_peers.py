"""refspec.testing against curvlinops on torch models, right and provoked to be wrong.

curvlinops has options for most conventions; every one that is not refspec's must be
named by the diagnosis. Inputs come as torch, jax, NumPy and array-api-strict arrays.
"""

import warnings

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.flatten_util import ravel_pytree
from torch import nn

from refspec import curvature, decompose, models
from refspec.exporters.torch import export
from refspec.kronecker import kfac
from refspec.testing import (
    assert_density,
    assert_levels,
    assert_operator,
    assert_spectrum,
)

with warnings.catch_warnings():  # curvlinops' dependencies use what torch deprecates
    warnings.simplefilter("ignore")
    curvlinops = pytest.importorskip("curvlinops")

jax.config.update("jax_enable_x64", True)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")

N, C = 12, 3
LABELS = torch.arange(C).repeat_interleave(4)


def build(kind, dtype=torch.float64):
    torch.manual_seed(0)
    if kind == "mlp":
        model, x = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, C)), (N, 4)
    else:
        model, x = (
            nn.Sequential(
                nn.Conv2d(1, 2, 3, padding=1),
                nn.Tanh(),
                nn.AvgPool2d(2),
                nn.Flatten(),
                nn.Linear(8, C),
            ),
            (N, 1, 4, 4),
        )
    return model.to(dtype), torch.randn(*x).to(dtype)


class Case:
    def __init__(self, kind, dtype=torch.float64):
        self.model, self.x = build(kind, dtype)
        self.data = [(self.x, LABELS)]
        self.snapshot = export(self.model, self.data, None, progress=False)

    def operator(self, name, *, reduction="mean", **options):
        return getattr(curvlinops, f"{name}LinearOperator")(
            self.model,
            nn.CrossEntropyLoss(reduction=reduction),
            list(self.model.parameters()),
            self.data,
            check_deterministic=False,
            **options,
        )

    def check(self, operator, **options):
        like = next(self.model.parameters()).detach()
        return assert_operator(
            operator, self.snapshot, like=like, order="torch", **options
        )


CASES = {kind: Case(kind) for kind in ("mlp", "cnn")}


@pytest.fixture(params=list(CASES))
def case(request):
    return CASES[request.param]


def names_of(error):
    lines = [x for x in str(error.value).splitlines() if "diagnosis" in x and "[" in x]
    return [x.rsplit("[", 1)[1].split(";")[0].rstrip("]") for x in lines]


def test_right_operators_pass(case):
    case.check(case.operator("GGN"))
    case.check(case.operator("Hessian"), of="hessian")
    case.check(case.operator("EF"), of="empirical_fisher")
    for setting in ("expand", "reduce"):
        joint = case.operator(
            "KFAC",
            fisher_type="type-2",
            kfac_approx=setting,
            separate_weight_and_bias=False,
        )
        case.check(joint, of="kfac", setting=setting)


@pytest.mark.parametrize("kind", CASES)
def test_single_precision_passes_and_half_a_percent_does_not(kind):
    single = Case(kind, torch.float32)
    single.check(single.operator("GGN"))
    single.check(
        single.operator("KFAC", fisher_type="type-2", separate_weight_and_bias=False),
        of="kfac",
    )
    exact = single.operator("GGN")
    with pytest.raises(AssertionError):
        single.check(lambda v: 1.005 * (exact @ v))


def test_what_curvlinops_does_otherwise_is_named(case):
    def named(operator, **options):
        with pytest.raises(AssertionError) as error:
            case.check(operator, **options)
        return names_of(error)

    assert "factor N" in named(case.operator("GGN", reduction="sum"))
    assert "empirical Fisher" in named(case.operator("EF"))
    assert "Hessian" in named(case.operator("Hessian"))
    assert "Gauss-Newton" in named(case.operator("GGN"), of="hessian")
    for M in (1, 3):
        drawn = case.operator("FisherMC", mc_samples=M)
        assert "Monte-Carlo labels" in named(drawn)
    assert "bias apart" in named(case.operator("KFAC", fisher_type="type-2"), of="kfac")
    assert "empirical Fisher" in named(
        case.operator("KFAC", fisher_type="empirical", separate_weight_and_bias=False),
        of="kfac",
    )
    assert "Monte-Carlo labels" in named(
        case.operator("KFAC", fisher_type="mc", separate_weight_and_bias=False),
        of="kfac",
    )


def test_kfac_reduce_is_named():
    case = CASES["cnn"]
    reduced = case.operator(
        "KFAC",
        fisher_type="type-2",
        kfac_approx="reduce",
        separate_weight_and_bias=False,
    )
    with pytest.raises(AssertionError) as error:
        case.check(reduced, of="kfac")
    assert "setting reduce" in names_of(error)


def test_the_order_of_torch_is_named(case):
    operator = case.operator("GGN")
    like = next(case.model.parameters()).detach()
    with pytest.raises(AssertionError) as error:
        assert_operator(operator, case.snapshot, like=like)
    assert "order torch" in names_of(error)


def test_missing_centring_of_a_jacobian_product(case):
    """Somebody's own Gauss-Newton by torch.func, with diag(p) for diag(p) - pp'."""
    model = case.model
    names = [k for k, _ in model.named_parameters()]
    values = tuple(p.detach() for p in model.parameters())

    def logits(*values):
        pairs = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, pairs, (case.x,))

    J = torch.func.jacrev(logits, argnums=tuple(range(len(values))))(*values)
    J = torch.cat([x.reshape(N, C, -1) for x in J], dim=2)
    p = torch.softmax(logits(*values), 1)
    uncentred = torch.einsum("nc,ncp,ncq->pq", p, J, J) / N
    mean = torch.einsum("nc,ncp->np", p, J)
    case.check(uncentred - mean.T @ mean / N)
    with pytest.raises(AssertionError) as error:
        case.check(uncentred)
    assert "missing centring" in names_of(error)


@pytest.mark.parametrize(
    "asarray",
    [torch.asarray, jnp.asarray, np.asarray, array_api_strict.asarray],
    ids=["torch", "jax", "numpy", "strict"],
)
def test_every_assertion_takes_every_array(asarray):
    s = CASES["mlp"].snapshot
    moment = curvature.fisher(s)
    F = np.array(moment.matrix())
    assert_operator(asarray(F), s)
    A = asarray(F)
    assert_operator(lambda v: A @ v, s, like=A)
    with pytest.raises(AssertionError) as error:
        assert_operator(asarray(N * F), s)
    assert "factor N" in names_of(error)
    values, V = np.linalg.eigh(F)
    assert_spectrum(asarray(values.copy()), s)
    K = kfac(s, s.layers[0].name)
    product = np.kron(np.asarray(K.left), np.asarray(K.right))
    assert_operator(asarray(product), s, of="kfac", layer=s.layers[0].name)
    z = np.random.default_rng(0).standard_normal((len(F), 2))
    weights = ((V.T @ z) ** 2 / np.sum(z**2, axis=0)).T
    nodes = np.tile(values, (2, 1))
    assert_density(asarray(nodes), asarray(weights.copy()), s, vectors=asarray(z))

    levels = {k: np.array(x.matrix()) for k, x in decompose(moment).levels.items()}
    assert_levels({k: asarray(x) for k, x in levels.items()}, s)


def test_a_jax_hessian_vector_product_passes():
    """A function of jax vectors in the order of a flattened flax tree."""
    case = CASES["mlp"]
    section = case.snapshot.model
    network = models.from_section(section)
    W = {k: jnp.asarray(v) for k, v in network.parameters.items()}
    names = [op["name"] for op in network.operations if "weight" in op]
    tree = {
        k: {
            "bias": W[op["bias"]],
            "kernel": W[op["weight"]].T,
        }
        for op in network.operations
        if "weight" in op
        for k in [op["name"]]
    }
    X, y = jnp.asarray(section.inputs), jnp.asarray(case.snapshot.labels)

    def loss(tree):
        a, b = (tree[k] for k in names)
        h = jnp.tanh(X @ a["kernel"] + a["bias"])
        z = h @ b["kernel"] + b["bias"]
        return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(N), y])

    flat, back = ravel_pytree(tree)

    def product(v):
        gradient = jax.grad(lambda x: loss(back(x)))
        return jax.jvp(gradient, (flat,), (v,))[1]

    passed = assert_operator(
        product, case.snapshot, of="hessian", order="jax", like=flat
    )
    assert passed.failure > 0
