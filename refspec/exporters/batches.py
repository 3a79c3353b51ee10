"""What every exporter does: check batches, seed the errors, write with a progress bar.

A framework's module yields rows, the arrays of the schema batch by batch; what they
must be, and where they go, is the same for all and stated here. Whatever is fed in
ends in such rows or in a sentence, that of a framework below included.
"""

from __future__ import annotations

import itertools
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from refspec import checks, rounding
from refspec._version import __version__
from refspec.classes import Snapshot, log_softmax
from refspec.export import assemble
from refspec.export.containers import fitting, write
from refspec.export.documents import plain
from refspec.export.errors import shown
from refspec.export.schema import PARAMETERS, RESERVED, SCHEMA, expect_form
from refspec.text import visible

_Rows = Iterator[dict[str, np.ndarray]]
_SEEN = 4  # samples of a batch that are checked
_PAIRS = "for two arrays X and y give [(X, y)]"


@dataclass(slots=True, eq=False)
class Reading:
    """How labels are read: what an exporter was told of classes and weights."""

    names: Sequence[str] | None = None  # of the classes; labels may be names
    class_weights: np.ndarray | None = None
    sample_weights: np.ndarray | None = None
    ignored: int | None = None  # a label that stands for none
    read: int = 0  # inputs so far

    def weights(self, step: int, n: int) -> np.ndarray | None:
        """Return the weights of the next n inputs, None if there are none."""
        self.read += n
        s = self.sample_weights
        if s is not None and self.read > len(s):
            raise ValueError(
                f"sample_weights must have shape (N,), got {len(s)} of them and "
                f"{self.read} samples by batch {step}; give one for each"
            )
        return None if s is None else s[self.read - n : self.read]

    def expect_all(self) -> None:
        """Refuse weights for which there was no sample."""
        if self.sample_weights is not None and self.read < len(self.sample_weights):
            raise ValueError(
                f"sample_weights must have shape (N,) with N = {self.read} samples, "
                f"got {len(self.sample_weights)}; give one for each"
            )


def reading(
    class_names: Any = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    ignore_index: Any = None,
) -> Reading:
    """Check what the caller says of the labels."""
    names = None if class_names is None else _names(class_names)
    if ignore_index is not None:
        checks.expect_type("ignore_index", ignore_index, numbers.Integral, "as -100")
    if class_weights is not None:
        class_weights = as_array(0, "class_weights", class_weights)
        _expect_weights("class_weights", class_weights, ("C", None))
    if sample_weights is not None:
        sample_weights = as_array(0, "sample_weights", sample_weights)
        _expect_weights("sample_weights", sample_weights, ("N", None))
    return Reading(names, class_weights, sample_weights, ignore_index)


def open_loader(
    loader: Iterable[Any],
) -> tuple[tuple[Any, Any], Iterator[tuple[Any, Any]], int | None]:
    """Return the first batch, all batches, and how many there are if that is known.

    Batches are pairs, or mappings with `labels`.
    """
    kind = type(loader)
    if not (hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")):
        raise TypeError(
            "loader must be an iterable of batches (inputs, labels), got "
            f"{shown(loader, 60)} of type {kind.__name__}; {_PAIRS}"
        )
    batches = _pairs(loader)
    first = next(batches, None)
    if first is None:
        raise ValueError("loader must give at least one batch, got none; check it")
    try:
        total = len(loader)  # type: ignore[arg-type]
    except TypeError:  # a stream's: torch's loader has a length that raises
        total = None
    return first, itertools.chain([first], batches), total


def _pairs(loader: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield batches, each seen to be a pair that holds several samples."""
    for step, batch in enumerate(loader):
        if isinstance(batch, Mapping) and "labels" in batch:  # as of transformers
            inputs = {key: x for key, x in batch.items() if key != "labels"}
            batch = inputs, batch["labels"]
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            got = type(batch).__name__
            if isinstance(batch, tuple | list):
                got = f"a {got} of {len(batch)}"
            elif isinstance(batch, Mapping):
                got = f"a {got} of {shown(list(batch), 100)}"
            raise ValueError(
                f"loader must give batches (inputs, labels), got {got} in batch "
                f"{step}; {_PAIRS}"
            )
        inputs, labels = batch
        if isinstance(labels, numbers.Number | str) or _shape(labels) == ():
            raise ValueError(
                "loader must give batches (inputs, labels), got one sample with the "
                f"label {shown(labels, 60)} in batch {step}; a Dataset goes into a "
                f"DataLoader, and {_PAIRS}"
            )
        yield inputs, labels


@contextmanager
def answering(step: int, expected: str, advice: str) -> Iterator[None]:
    """Turn whatever is raised below, in a framework or a model, into a sentence."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{expected}, got in batch {step}: {type(error).__name__} "
            f"{shown(' '.join(str(error).split()))}; {advice}"
        ) from error


def _shape(x: Any) -> tuple[int, ...] | None:
    """Return the shape of an array of any library, None of what is no array."""
    shape = getattr(x, "shape", None)
    return None if shape is None else tuple(shape)


def _provenance(given: Any) -> dict[str, Any]:
    """Return what a caller adds to the manifest, but what only we can say."""
    given = {} if given is None else given
    checks.expect_type("provenance", given, Mapping, "give a dict, as {'seed': 0}")
    for key in given:
        checks.expect_type(f"key {shown(key, 60)} of provenance", key, str, "quote it")
    return {key: x for key, x in given.items() if key not in RESERVED}


def _names(given: Any) -> list[str]:
    """Return class names as strings; numbers may be names."""
    loose = isinstance(given, str | bytes | Mapping | Set)
    names = [] if loose or not isinstance(given, Iterable) else list(given)
    if not names or not all(isinstance(x, str | numbers.Integral) for x in names):
        raise TypeError(
            f"class_names must be a list of C names, got {shown(given, 60)}; give one "
            "string a class, in the order of the logits"
        )
    return [str(x) for x in names]


def as_array(step: int, name: str, x: Any) -> np.ndarray:
    """Return what a batch holds as an array on the host."""
    masked = isinstance(x, np.ma.MaskedArray)
    if masked or (isinstance(x, tuple) and any(_shape(y) for y in x)):
        got = "a masked array" if masked else f"a tuple of {len(x)} arrays"
        raise ValueError(
            f"{name} must be one array without gaps, got {got} in batch {step}; fill "
            "it, or wrap the model so that it takes one array"
        )
    with answering(step, f"{name} must be one array", "give rows of one length"):
        return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def as_numbers(step: int, x: Any, *, real: bool = False) -> np.ndarray:
    """Return the inputs of a batch on the host: numbers, samples on the first axis."""
    host = as_array(step, "inputs", x)
    if host.dtype.kind == "O" and host.ndim:  # numbers in objects, as of a table
        with answering(step, "inputs must be numbers", "convert them"):
            host = host.astype(np.float64)
    kind = host.dtype.kind
    if kind in "OSTUMm" or host.dtype.type is np.void or (real and kind == "c"):
        got = type(x).__name__ if host.ndim == 0 else f"an array of {host.dtype}"
        raise ValueError(
            f"inputs must be an array of {'real ' * real}numbers, got {got} in batch "
            f"{step}; convert them, or wrap the model so that it takes one array"
        )
    expect_samples(step, host.shape)
    wide = kind == "f" and host.dtype.itemsize > 8
    return np.ascontiguousarray(
        host, dtype=np.float64 if wide else host.dtype.newbyteorder("=")
    )


def same_numbers(step: int, given: np.ndarray, made: Any) -> None:
    """Refuse integers that the dtype of the model's inputs cannot hold."""
    if given.dtype.kind in "iu" and not np.array_equal(given, np.asarray(made)):
        raise ValueError(
            f"inputs must be integers of {made.dtype}, got {given.min()}.."
            f"{given.max()} in batch {step}; number them anew, or give floats"
        )


def expect_samples(step: int, shape: Sequence[int]) -> None:
    """Refuse inputs without a batch axis, and a batch of no samples."""
    if not shape:
        raise ValueError(
            f"inputs must have samples on their first axis, got a single number in "
            f"batch {step}; give an array of shape (batch, ...)"
        )
    if shape[0] < 1:
        raise ValueError(f"batch {step} must hold a sample, got none; drop it")


def outputs(
    step: int,
    logits: Any,
    labels: Any,
    n: int,
    how: Reading | None = None,
    each: int = 1,
) -> dict[str, np.ndarray]:
    """Return labels and logits of batch `step`, n samples, `each` to an input.

    Logits (n, C) are on the host; labels (n,) are in 0..C-1, or -1 for none (`row`
    leaves these out); weights of samples, if there are any, do not have sum 1 yet.
    """
    how = Reading() if how is None else how
    if getattr(logits, "ndim", 0) != 2 or len(logits) != n:
        got = tuple(logits.shape) if hasattr(logits, "shape") else type(logits)
        raise ValueError(
            f"model must give logits of shape (batch, C) with batch = {n}, got {got}; "
            "wrap it so that it does"
        )
    C = logits.shape[1]
    if C < 2:
        raise ValueError(
            f"model must give C >= 2 logits, got {C}; give a binary classifier both, "
            "(0, z) for a single logit z"
        )
    expect_precise(logits.dtype)
    labels = _labels(step, labels, n, C, how)
    made = {"labels": labels, "logits": host(logits)}
    s = how.weights(step, n // each)
    if s is None and how.class_weights is None:
        return made
    s = np.ones(n) if s is None else np.repeat(s, each)
    if how.class_weights is not None:
        _expect_weights("class_weights", how.class_weights, ("C", C))
        s = s * how.class_weights[labels]
    return made | {"sample_weights": s.astype(np.float64)}


def expect_classes(classes: Sequence[int], C: int) -> None:
    """Refuse all but a choice of at least two of the columns 0..C-1."""
    if not isinstance(classes, Sequence | np.ndarray) or isinstance(classes, str):
        raise TypeError(
            f"classes must be a list of columns in 0..C-1 = 0..{C - 1}, got "
            f"{shown(classes, 60)}; put them in brackets"
        )
    integers = all(
        isinstance(x, int | np.integer) and not isinstance(x, bool) and 0 <= x < C
        for x in classes
    )
    if not integers or not 2 <= len(set(classes)) == len(classes):
        raise ValueError(
            f"classes must be at least two columns in 0..C-1 = 0..{C - 1}, each once, "
            f"got {list(classes)}; choose them among the network's classes"
        )


def _labels(step: int, given: Any, n: int, C: int, how: Reading) -> np.ndarray:
    """Return labels as integers in 0..C-1, -1 for those that are ignored."""
    labels = as_array(step, "labels", given)
    if labels.dtype.kind in "OUS" and labels.shape == (n,):
        labels = _numbered(step, labels, how.names)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape (batch,) = ({n},), got {labels.dtype} "
            f"of shape {labels.shape} in batch {step}; {_instead(labels, n, C)}"
        )
    kept = np.ones(n, dtype=bool) if how.ignored is None else labels != how.ignored
    wrong = labels[kept & ((labels < 0) | (labels >= C))]
    if wrong.size:
        advice = "number the classes from 0"
        if wrong.max() < 0 and how.ignored is None:
            advice += f", or give ignore_index={wrong[0]} if that is no class"
        raise ValueError(
            f"labels must lie in 0..C-1 = 0..{C - 1}, got {labels[kept].min()}.."
            f"{labels[kept].max()} in batch {step}; {advice}"
        )
    return np.where(kept, labels, -1).astype(np.int64)


def _instead(labels: np.ndarray, n: int, C: int) -> str:
    """Say what to do about labels that are no class indices."""
    if labels.shape == (n, C) and labels.dtype.kind in "iub":
        if np.all(np.sort(labels, axis=1) == np.eye(C, dtype=int)[-1]):
            return "give class indices, of one-hot rows labels.argmax(axis=1)"
    elif labels.dtype.kind != "f":
        return "give class indices"
    # several labels a sample, soft ones, or the targets of a regression
    return (
        "the class structure needs one class for each sample and a softmax over C "
        "logits; of several labels a sample, or of a regression, features alone have "
        "it: give class indices of your own and take refspec.features of a layer"
    )


def _numbered(step: int, labels: np.ndarray, names: Sequence[str] | None) -> np.ndarray:
    """Return names of classes as their numbers; whatever else stays as it is."""
    texts = [x for x in labels.tolist() if isinstance(x, str)]
    if len(texts) < len(labels):
        return labels
    if names is None:
        raise ValueError(
            f"labels must be integers, got {shown(texts[:3], 60)} in batch {step}; "
            "give class_names, in the order of the logits, or class indices"
        )
    unknown = sorted(set(texts) - set(names))
    if unknown:
        raise ValueError(
            f"labels must be among class_names = {shown(list(names), 100)}, got "
            f"{shown(unknown[:3], 60)} in batch {step}; correct them"
        )
    return np.array([list(names).index(x) for x in texts])


def _expect_weights(name: str, given: np.ndarray, size: tuple[str, int | None]) -> None:
    """Refuse all but one finite weight >= 0 for each of something."""
    letter, n = size
    fits = given.ndim == 1 and n in (None, len(given)) and given.dtype.kind in "iuf"
    if not fits or not np.all(np.isfinite(given)) or np.min(given, initial=0) < 0:
        expected = letter if n is None else f"{letter},) = ({n}"
        raise ValueError(
            f"{name} must be finite numbers >= 0 of shape ({expected},), got "
            f"{given.dtype} of shape {given.shape}, from {shown(given.tolist(), 60)}; "
            "give one for each"
        )


def expect_precise(dtype: Any) -> None:
    """Refuse logits of half precision, complex ones and integers."""
    if str(dtype).removeprefix("torch.") not in ("float32", "float64"):
        raise ValueError(
            f"model must give logits of float32 or float64, got {dtype}; convert it, "
            "and leave automatic casting"
        )


def expect_real(dtype: Any) -> None:
    """Refuse complex numbers, whose conversion would drop a part."""
    if "complex" in str(dtype):
        raise ValueError(
            f"inputs, features and errors must be real, got {dtype}; take the parts "
            "apart, as two real numbers, before the first layer"
        )


def expect_no_softmax(step: int, logits: np.ndarray) -> None:
    """Refuse rows that are >= 0 and sum to 1: a softmax would be taken twice."""
    z = logits.astype(np.float64)
    with np.errstate(all="ignore"):  # what is not finite is refused later
        off = np.max(np.abs(np.sum(z, axis=1) - 1))
    bound = rounding.gamma(2 * z.shape[1] + 16, rounding.unit_roundoff(logits))
    if np.min(z) >= 0 and off <= bound:
        raise ValueError(
            "model must give logits, got rows that are >= 0 and sum to 1, which are "
            f"probabilities, in batch {step}; take the softmax off its end"
        )


def row(
    inputs: np.ndarray | None,
    made: Mapping[str, np.ndarray],
    layers: Sequence[tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Return a batch by the names of the schema; (features, errors) of each layer.

    Samples whose label is ignored are left out.
    """
    found = {} if inputs is None else {"model/inputs": inputs}
    found |= made
    for k, (features, errors) in enumerate(layers):
        found |= {f"layers/{k}/features": features, f"layers/{k}/errors": errors}
    kept = made["labels"] >= 0
    return found if np.all(kept) else {key: x[kept] for key, x in found.items()}


def seeds(logits: np.ndarray) -> Iterator[np.ndarray]:
    """Yield p - e_c' (n, C) for every label c', the derivative of -log p_c'.

    Entry c' is minus the sum of the other probabilities, in float64, so that the small
    errors of a fitted network keep their relative accuracy.
    """
    p = np.exp(log_softmax(logits.astype(np.float64)))
    for c in range(p.shape[1]):
        seed = p.copy()
        seed[:, c] = 0
        seed[:, c] = -seed.sum(axis=1)
        yield seed


def all_seeds(logits: np.ndarray) -> np.ndarray:
    """Return the seeds of every label at once, (n, C, C): axis 1 is c'."""
    return np.stack(list(seeds(logits)), axis=1)


# --- an exporter checks itself --------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Random r_n and a label c': of sum_n r_n loss_(n,c') the gradient is compared."""

    weights: np.ndarray  # r, (n,)
    label: int  # c'


def checked_steps(total: int | None, rng: np.random.Generator) -> set[int]:
    """Return the batches to check: the first, and a later one drawn at random.

    Of a stream without a length it is the second.
    """
    return {0, int(rng.integers(1, total)) if (total or 0) > 1 else 1}


def probe(n: int, C: int, rng: np.random.Generator) -> Probe:
    """Draw r and c' for a batch of n samples: `_SEEN` of them weigh, the others 0."""
    # Powers of two scale every rounding with them: a pass of r times a seed gives r
    # times its errors, to the bit, where samples are not mixed. And the fewer terms a
    # sum has, the fewer roundings, the smaller the faults that it shows.
    r = np.zeros(n)
    seen = rng.choice(n, min(n, _SEEN), replace=False)
    r[seen] = rng.choice([-4.0, -2.0, -1.0, 1.0, 2.0, 4.0], len(seen))
    return Probe(r, int(rng.integers(C)))


def expect_gradient(
    step: int,
    name: str,
    rows: tuple[np.ndarray, np.ndarray],
    drawn: Probe,
    gradient: np.ndarray,
    path: int,
    unit: float | None = None,
) -> None:
    """Refuse a layer unless sum_n r_n errors_n (x) features_n is the gradient.

    `rows`: its features (n, T, a) and errors (n, C, T, b); `gradient` (b, a): the
    framework's, by [weight bias], of sum_n r_n loss_(n,c'); `path`: see `path_length`.
    """
    features, errors = rows
    unit = rounding.unit_roundoff(errors) if unit is None else unit
    seen = np.flatnonzero(drawn.weights)
    r = drawn.weights[seen]
    h = features[seen].astype(np.float64)
    e = errors[seen, drawn.label].astype(np.float64) * r[:, None, None]
    (m, T, a), b = h.shape, e.shape[2]
    e, h, given = e.reshape(m * T, b), h.reshape(m * T, a), gradient.astype(np.float64)
    with np.errstate(all="ignore"):  # what is not finite is refused later
        size = float(np.linalg.norm(np.abs(e).T @ np.abs(h)))
        same = given.shape == (b, a)
        off = float(np.linalg.norm(e.T @ h - given)) if same else math.inf
    if not np.isfinite(size):
        return
    k = m * T + path
    bound = _likely_gamma(k, unit, a * b) * size
    bound += rounding.underflow(k, unit) * math.sqrt(a * b) * float(np.abs(r).max())
    if not off <= bound:
        raise ValueError(
            f"errors (x) features of layer {name!r} must make up the gradient of its "
            f"weights, got a sum that is off by {off:.2g} of {size:.2g}, more than "
            f"rounding ({bound:.2g}), in batch {step}: the layer does something else "
            "than multiply its inputs (a subclass, a hook), its weights are used again "
            "or tied, its samples are not on the first axis, or samples are mixed; "
            f"leave it out by exclude=[{name!r}], or take rows by differentiation: "
            "`moment`, beside `export`"
        )


def expect_alone(
    step: int, one: np.ndarray, other: np.ndarray, path: int, unit: float | None = None
) -> None:
    """Refuse logits (m, C) of samples that change when other samples of the batch do.

    `one` and `other` are those of the same samples among different ones (`replaced`).
    """
    unit = rounding.unit_roundoff(one) if unit is None else unit
    with np.errstate(all="ignore"):  # what is not finite is refused later
        off = np.abs(one.astype(np.float64) - other.astype(np.float64))
        size = float(np.max(np.abs(one)))
    if (
        np.isfinite(size)
        and not np.max(off) <= _likely_gamma(path, unit, off.size) * size
    ):
        raise ValueError(
            "model must treat each sample by itself, got logits of a sample that move "
            f"by {np.max(off):.2g} of {size:.2g} when others of batch {step} are "
            "replaced; use running averages in place of batch statistics, as in "
            "evaluation mode, and nothing random"
        )


def replaced(n: int) -> tuple[np.ndarray, int]:
    """Return a choice of n samples whose first ones are as they were, and how many.

    The others give way to copies of these: logits of the first ones may not move.
    """
    same = n // 2
    return (np.resize(np.arange(same), n) if same else np.arange(n)), same


def path_length(layers: Iterable[tuple[int, int]]) -> int:
    """Count the roundings on a way through a network: a + b of each layer, at least."""
    return 64 + 4 * sum(a + b for a, b in layers)


def _likely_gamma(k: int, u: float, entries: int) -> float:
    """Bound k roundings in each of many entries, but for a chance of `FAILURE`.

    Of independent roundings of mean 0 (Higham and Mary, SISC 41(5), 2019, Thm 2.4).
    """
    chance = 2 * math.log(2 * max(k, 1) * entries / rounding.FAILURE)
    likely = math.expm1(math.sqrt(chance * k) * u + k * u * u / (1 - u))
    return min(rounding.gamma(k, u), likely)


def choose_layers(
    layers: Sequence[str] | None,
    names: Sequence[str],
    known: Sequence[str],
    what: str,
    exclude: Sequence[str] = (),
) -> list[str]:
    """Return the layers asked for, by default all `names`, but those excluded.

    Refuse a choice that is empty, not of `known`, or not once each.
    """
    for word, given in (("layers", layers), ("exclude", exclude)):
        loose = isinstance(given, str | bytes) or not isinstance(given, Iterable | None)
        if loose or (given is None and word == "exclude"):
            raise TypeError(
                f"{word} must be a list of names among {list(names)}, got "
                f"{shown(given, 60)}; put the name in brackets"
            )
    chosen, dropped = list(names if layers is None else layers), list(exclude)
    for word, given in (("layers", chosen), ("exclude", dropped)):
        unknown = [x for x in given if x not in known]
        some = given or word == "exclude"
        if unknown or not some or len(set(given)) < len(given):
            raise ValueError(
                f"{word} must be names, each once, among {list(names)}{what}, got "
                f"{unknown or given}; correct them"
            )
    chosen = [x for x in chosen if x not in dropped]
    if not chosen:
        raise ValueError(
            f"exclude must leave a layer, got all of {dropped}; leave one of them out"
        )
    return chosen


def host(x: Any) -> np.ndarray:
    """Copy to a NumPy array of float64 or, if narrower, float32."""
    x = np.asarray(x)
    expect_real(x.dtype)
    wide = x.dtype.kind == "f" and x.dtype.itemsize >= 8
    with np.errstate(over="ignore"):  # what is not finite is refused later
        return np.array(x, dtype=np.float64 if wide else np.float32)


def pad(features: np.ndarray) -> np.ndarray:
    """Append the feature 1 of a bias to features (n, T, a)."""
    return np.concatenate([features, np.ones_like(features[..., :1])], axis=-1)


def deliver(
    rows: _Rows,
    path: str | os.PathLike[str] | None,
    parameters: Mapping[str, np.ndarray],
    *,
    framework: tuple[str, str],
    architecture: str,
    layers: Sequence[str],
    operations: Sequence[Mapping[str, Any]] | None,
    without: str = "",
    left_out: Mapping[str, int] | None = None,
    biases: Mapping[str, bool] | None = None,
    class_names: Sequence[str] | None,
    provenance: Mapping[str, Any] | None,
    total: int | None,
    progress: bool,
    how: Reading | None = None,
) -> Path | Snapshot:
    """Write the rows as they come, or make a Snapshot of them if there is no path.

    `framework`: name and version; `without`: why there are no operations; for the next
    two see `refspec.coverage`. Ours stand before the caller's provenance.
    """
    checks.expect_type("progress", progress, bool, "give True or False")
    manifest = _provenance(provenance) | {
        "schema": SCHEMA,
        "framework": framework[0],
        "versions": {framework[0]: framework[1], "refspec": __version__},
        "architecture": architecture,
        "loss": "cross_entropy",
        "layers": list(layers),
    }
    steps = None if operations is None else [dict(x) for x in operations]
    stated: dict[str, Any] = {"left_out": left_out, "biases": biases}
    stated |= {"operations": steps, "without_network": without or None}
    manifest |= {key: x for key, x in stated.items() if x is not None}
    if class_names is not None:
        manifest["class_names"] = _names(class_names)
    manifest = plain("provenance", manifest)
    console = Console(stderr=True)
    bar = Progress(
        console=console, disable=not (progress and console.is_terminal), transient=True
    )
    if without and progress:
        text = (
            f"no network in this export, so no Hessian of it: {visible(without, 300)}"
        )
        console.print(text, style="dim", markup=False, highlight=False)
    fixed = {PARAMETERS + name: x for name, x in parameters.items()}
    where = Path("export") if path is None else path
    some = (x for x in rows if len(x["labels"]))
    checked = _checked(fitting(where, some), where, manifest, fixed, how)
    with bar:
        tracked = bar.track(checked, total=total, description="exporting")
        if path is not None:
            return write(path, manifest, tracked, fixed)
        parts = list(tracked)  # then `fixed` is complete
    arrays = {key: np.concatenate([x[key] for x in parts]) for key in parts[0]}
    return assemble(manifest, arrays | fixed)


def _checked(
    rows: Iterable[Mapping[str, np.ndarray]],
    where: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    fixed: dict[str, np.ndarray],
    how: Reading | None,
) -> Iterator[Mapping[str, np.ndarray]]:
    """Refuse what no reader would take, as soon as it is seen.

    Weights of samples are added up, and are in `fixed` when all rows are out.
    """
    seen = 0
    weights: list[np.ndarray] = []
    for step, given in enumerate(rows):
        row = dict(given)
        if "sample_weights" in row:
            weights.append(row.pop("sample_weights"))
        if step == 0:  # fitting rows have the first one's shapes: the form is known
            expect_form(where, manifest, row | fixed)
        for key, x in (row if step else {**fixed, **row}).items():
            if not np.all(np.isfinite(x)):
                raise ValueError(
                    f"{key} (layers are {manifest['layers']}) must be finite, got nan "
                    f"or infinite values in batch {step}; look for a diverged network"
                )
        seen += len(row["labels"])
        yield row
    if not seen:
        raise ValueError(
            "loader must give samples, got none whose label counts; check ignore_index"
        )
    if how is not None:
        how.expect_all()
    if weights:
        fixed["sample_weights"] = _normalised(np.concatenate(weights))


def _normalised(weights: np.ndarray) -> np.ndarray:
    """Return weights of sum 1."""
    total = float(np.sum(weights))
    if not 0 < total < np.inf:
        raise ValueError(
            f"weights of all samples must have a finite sum > 0, got {total}; weigh one"
        )
    return weights / total
