"""One method on one network: `python cells.py METHOD NETWORK N` prints a JSON line.

A process a cell, so that the peak of resident memory is the cell's own (what the
libraries themselves take at import is included, and printed as the base).
"""

import json
import sys
import time
from pathlib import Path

import networks

sys.path.insert(0, str(Path(__file__).parents[2]))


def fisher_refspec(network, X, y):
    from refspec import curvature, models, spectrum

    snapshot = models.snapshot(network, X, y)
    return spectrum(curvature.fisher(snapshot)).values


def attribution_refspec(network, X, y):
    from refspec import attribute, curvature, models

    return attribute(curvature.fisher(models.snapshot(network, X, y))).spectrum.values


def fisher_vivit(network, X, y):
    """ViViT's Gram route; torch dropped `symeig`, which it calls: patched."""
    import torch
    from backpack import backpack, extend
    from vivit.linalg.eigvalsh import EigvalshComputation

    torch.Tensor.symeig = lambda self, eigenvectors=False, **_: (
        tuple(torch.linalg.eigh(self))
        if eigenvectors
        else (torch.linalg.eigvalsh(self), None)
    )
    model, loss = extend(networks.as_torch(network)), torch.nn.CrossEntropyLoss()
    loss, work = extend(loss), EigvalshComputation()
    group = [{"params": list(model.parameters())}]
    value = loss(model(torch.tensor(X)), torch.tensor(y))
    hook = work.get_extension_hook(group)
    with backpack(work.get_extension(), extension_hook=hook):
        value.backward()
    return work.get_result(group[0]).detach().numpy()


def fisher_vmap(network, X, y):  # noqa: ARG001
    """Per-sample Jacobians by torch.func, then the smaller of primal and dual."""
    import torch

    model, inputs = networks.as_torch(network), torch.tensor(X)
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def outputs(p, x):
        return torch.func.functional_call(model, p, (x,))

    jacobian = torch.func.vmap(
        torch.func.jacrev(outputs), in_dims=(None, 0), chunk_size=200
    )(parameters, inputs)
    N, C = len(X), 10
    J = torch.cat([j.reshape(N, C, -1) for j in jacobian.values()], 2)
    p = torch.softmax(outputs(parameters, inputs), 1)
    S = p.sqrt()[:, :, None] * (torch.eye(C)[None] - p[:, None, :])
    J = torch.bmm(S, J).reshape(N * C, -1)
    K = (J @ J.T if J.shape[0] <= J.shape[1] else J.T @ J) / N
    return torch.linalg.eigvalsh(K).numpy()


def fisher_nngeometry(network, X, y):
    import torch
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatDense

    model = networks.as_torch(network)
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(y))
    loader = torch.utils.data.DataLoader(data, batch_size=len(X))
    matrix = FIM(model, loader, PMatDense, variant="classif_logits")
    return torch.linalg.eigvalsh(matrix.to_torch().detach()).numpy()


def hessian_refspec(network, X, y):
    import numpy as np

    from refspec import hessian

    return np.linalg.eigvalsh(hessian.hessian(network, X, y))


def hessian_assembly_refspec(network, X, y):
    from refspec import hessian

    return hessian.hessian(network, X, y)[:1, :1]


def _jax_hessian(network, X, y):
    import jax
    import jax.numpy as jnp

    from refspec import models

    jax.config.update("jax_enable_x64", True)
    vector = jnp.asarray(models.flatten(network))
    steps = [x["op"] for x in network.operations]
    dims = [64] + [
        network.parameters[x["weight"]].shape[0]
        for x in network.operations
        if x["op"] == "linear"
    ]
    kinds = {"tanh": jnp.tanh, "relu": jax.nn.relu}

    def loss(v):
        h, start, layer = jnp.asarray(X), 0, 0
        for op in steps:
            if op == "linear":
                a, b = dims[layer], dims[layer + 1]
                W = v[start : start + b * (a + 1)].reshape(b, a + 1)
                h, start, layer = (
                    h @ W[:, :a].T + W[:, a],
                    start + b * (a + 1),
                    layer + 1,
                )
            else:
                h = kinds[op](h)
        return -jnp.mean(
            jnp.take_along_axis(jax.nn.log_softmax(h), jnp.asarray(y)[:, None], 1)
        )

    gradient, P = jax.grad(loss), vector.size

    def column(i):
        return jax.jvp(gradient, (vector,), (jnp.zeros(P).at[i].set(1.0),))[1]

    return jax.jit(lambda _: jax.lax.map(column, jnp.arange(P), batch_size=128))


def hessian_jax(network, X, y, compiled={}):  # noqa: B006
    import numpy as np

    return np.linalg.eigvalsh(hessian_assembly_jax(network, X, y, compiled, True))


def hessian_assembly_jax(network, X, y, compiled={}, whole=False):  # noqa: B006
    import numpy as np

    key = (id(network), len(X))
    if key not in compiled:  # compile outside the timing, as jax is used
        compiled[key] = _jax_hessian(network, X, y)
        compiled[key](0).block_until_ready()
    H = np.asarray(compiled[key](0).block_until_ready())
    return H if whole else H[:1, :1]


def hessian_torch(network, X, y):
    import torch

    model = networks.as_torch(network)
    names = [n for n, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    sizes = [p.numel() for p in model.parameters()]
    vector = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def loss(v):
        parts = [x.reshape(s) for x, s in zip(v.split(sizes), shapes, strict=True)]
        p = dict(zip(names, parts, strict=True))
        out = torch.func.functional_call(model, p, (torch.tensor(X),))
        return torch.nn.functional.cross_entropy(out, torch.tensor(y))

    return torch.linalg.eigvalsh(torch.func.hessian(loss)(vector)).numpy()


METHODS = {
    k: f for k, f in globals().items() if callable(f) and "_" in k and k[0] != "_"
}


def peak():
    """Peak resident memory in MiB (Linux). `ru_maxrss` would be the parent's too."""
    status = Path("/proc/self/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main():
    method, name, N = sys.argv[1], sys.argv[2], int(sys.argv[3])
    network, X, y = networks.load(name)
    base = peak()
    start = time.perf_counter()
    METHODS[method](network, X[:N], y[:N])
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "base": base, "peak": peak()}))


if __name__ == "__main__":
    main()
