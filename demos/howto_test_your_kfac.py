"""Test your KFAC against refspec: right passes, a wrong convention is named.

A KFAC of thirty lines of PyTorch, as in many repositories, is compared with refspec on
the network that it is made for. Needs refspec[torch].
"""

# %% Your network, your data, your KFAC
import torch
from torch import nn

from refspec.testing import assert_operator
from refspec.torch import export

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
X, y = torch.randn(30, 6).double(), torch.arange(30) % 3


def my_kfac(name, *, reduction="mean", labels="model"):
    """Return the factors of one layer: errors (b, b) and features (a, a)."""
    layer, seen = dict(model.named_modules())[name], {}

    def hook(_, inputs, output):
        seen["features"], seen["output"] = inputs[0].detach(), output

    handle = layer.register_forward_hook(hook)
    logits = model(X)
    handle.remove()
    p = torch.softmax(logits, 1).detach()
    errors = 0
    for c in range(p.shape[1]):  # a backward pass for every label the model may draw
        target = torch.full_like(y, c)
        loss = nn.functional.cross_entropy(logits, target, reduction="sum")
        (delta,) = torch.autograd.grad(loss, seen["output"], retain_graph=True)
        weight = p[:, c] if labels == "model" else (y == c).double()
        errors = errors + (weight[:, None] * delta).T @ delta
    h = torch.cat([seen["features"], torch.ones(len(X), 1).double()], 1)
    N = len(X)
    return errors / (N if reduction == "mean" else 1), h.T @ h / N


# %% The same samples, seen by refspec
snapshot = export(model, [(X, y)], None, progress=False)

# %% Right: a dense matrix, or only its products with vectors
for layer in ("0", "2"):
    left, right = my_kfac(layer)
    passed = assert_operator(torch.kron(left, right), snapshot, of="kfac", layer=layer)
    print(passed.statement)

    def product(v, left=left, right=right):
        """Return errors (x) features times v, without the matrix."""
        V = v.reshape(len(left), len(right))
        return (left @ V @ right).ravel()

    assert_operator(product, snapshot, of="kfac", layer=layer, like=left)

# %% Wrong in three of the ways of the trade
left, right = my_kfac("0")
wrong = {
    "features (x) errors": torch.kron(right, left),
    "sum reduction": torch.kron(*my_kfac("0", reduction="sum")),
    "observed labels": torch.kron(*my_kfac("0", labels="observed")),
}
told = {}
for what, matrix in wrong.items():
    try:
        assert_operator(matrix, snapshot, of="kfac", layer="0")
    except AssertionError as error:
        told[what] = str(error)
        print(f"\n{what}:\n{error}")

# %% Every one was told by its name
names = ("transposed", "factor 1/N missing", "empirical Fisher")
assert all(x in text for x, text in zip(names, told.values(), strict=True))
