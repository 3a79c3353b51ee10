"""Train a network with weight decay until it is stationary; needs torch, scikit-learn.

    python tests/networks/iris_decay.py [refspec/data/iris_decay.npz]

A 4-8-6-3 tanh network in float64 learns scikit-learn's 150 irises, all of which are
exported. Quasi-Newton steps come near a minimum of cross entropy plus weight decay,
Newton steps by the exact Hessian of its 115 parameters end where the gradient is
rounding. Weight decay, the gradient's norm and the mean loss go into the export: what
theory/weights.md asks to be told. Another machine may end in another minimum.
"""

from __future__ import annotations

import itertools
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from sklearn.datasets import load_iris
from torch import nn

from refspec.exporters.torch import export

WIDTHS = (4, 8, 6, 3)
DECAY = 2e-3
STEPS, NEWTON = 400, 8


def network() -> nn.Sequential:
    """Return the network before training."""
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {}
    for k, (a, b) in enumerate(itertools.pairwise(WIDTHS), start=1):
        modules |= {f"fc{k}": nn.Linear(a, b), f"tanh{k}": nn.Tanh()}
    modules.popitem()  # the last layer gives logits
    return nn.Sequential(OrderedDict(modules)).double()


def objective(
    model: nn.Module, X: torch.Tensor, y: torch.Tensor, decay: float
) -> torch.Tensor:
    """Return the mean cross entropy plus decay / 2 times the squared parameters."""
    squares = sum(torch.sum(x * x) for x in model.parameters())
    return nn.functional.cross_entropy(model(X), y) + decay / 2 * squares


def train(
    model: nn.Module, X: torch.Tensor, y: torch.Tensor, decay: float = DECAY
) -> float:
    """Bring the model to a minimum; return the norm of the gradient there."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = objective(model, X, y, decay)
        loss.backward()
        return loss

    optimizer.step(closure)
    at = list(model.parameters())
    for _ in range(NEWTON):
        loss = objective(model, X, y, decay)
        parts = torch.autograd.grad(loss, at, create_graph=True)
        slope = torch.cat([x.reshape(-1) for x in parts])
        rows = [torch.autograd.grad(x, at, retain_graph=True) for x in slope]
        H = torch.stack([torch.cat([x.reshape(-1) for x in row]) for row in rows])
        if torch.linalg.eigvalsh(H)[0] <= 0:
            raise RuntimeError("no minimum: the Hessian is not positive definite")
        step = torch.linalg.solve(H, slope.detach())
        nn.utils.vector_to_parameters(
            nn.utils.parameters_to_vector(at).detach() - step, at
        )
    closure()
    return float(torch.cat([x.grad.reshape(-1) for x in at]).norm())


def main(path: Path) -> None:
    """Train, export, and say how well the network fits."""
    torch.set_num_threads(1)
    iris = load_iris()
    X = torch.tensor(iris.data)
    X = (X - X.mean(0)) / X.std(0)
    y, model = torch.tensor(iris.target), network()
    slope = train(model, X, y)
    accuracy = float((model(X).argmax(1) == y).double().mean())
    said = {
        "data": "sklearn.datasets.load_iris (BSD-3)",
        "mean_loss": nn.functional.cross_entropy(model(X), y).item(),
        "weight_decay": DECAY,
        "gradient_norm": slope,
    }
    names = [str(x) for x in iris.target_names]
    export(model, [(X, y)], path, class_names=names, provenance=said)
    sys.stdout.write(
        f"training accuracy {accuracy:.4f}, gradient {slope:.1e}, {len(y)} samples, "
        f"{path.stat().st_size / 1e3:.0f} kB in {path.name}\n"
    )


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2] / "refspec/data/iris_decay.npz"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
