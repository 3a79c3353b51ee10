"""How labels and logits are read: what a caller says of classes and weights.

The same for every exporter, and for moments by differentiation: where in what a model
gives the logits of a sample are, which class its label names, how much it weighs.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from refspec import checks
from refspec.export.errors import shown
from refspec.exporters.feeding import as_array, expect_precise, host


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the samples of one input are in what a model gives for it.

    One sample, or one at each of some positions: tokens, pixels. Classes are on the
    last axis then or, as torch's cross entropy has it, on the second.
    """

    positions: tuple[int, ...] = ()
    second: bool = False

    @property
    def samples(self) -> int:
        """S, the samples of an input."""
        return math.prod(self.positions)

    def flat(self, z: Any, xp: Any) -> Any:
        """Return logits (n S, C) of n inputs; of a single logit z those of (0, z)."""
        if self.second:
            z = z.reshape(len(z), z.shape[1], -1).swapaxes(1, 2)
        if z.ndim != 2:
            z = z.reshape(-1, z.shape[-1] if z.ndim > 2 else 1)
        return xp.concatenate([xp.zeros_like(z), z], 1) if z.shape[1] == 1 else z


@dataclass(slots=True, eq=False)
class Reading:
    """What an exporter is told of classes, labels and weights, by its options."""

    class_names: Sequence[str] | None = None  # labels may be names
    classes: Sequence[int] | None = None
    class_weights: Any = None
    sample_weights: Any = None
    ignore_index: int | None = None  # a label that stands for none
    read: int = 0  # inputs so far

    def __post_init__(self) -> None:
        """Check what can be checked before a batch is seen."""
        if self.class_names is not None:
            self.class_names = as_names(self.class_names)
        if self.ignore_index is not None:
            ignored, advice = self.ignore_index, "as -100"
            checks.expect_type("ignore_index", ignored, numbers.Integral, advice)
        for name, size in (("class_weights", "C"), ("sample_weights", "N")):
            if getattr(self, name) is not None:
                given = as_array(0, name, getattr(self, name))
                _expect_weights(name, given, (size, None))
                setattr(self, name, given)

    def layout(self, step: int, shape: Sequence[int], labels: Any, n: int) -> Layout:
        """Return where samples are in an output of a shape, given for n inputs."""
        shape = tuple(shape)
        beside = ""
        if shape[:1] == (n,) and len(shape) < 3:
            return Layout()
        if shape[:1] == (n,):
            given = as_array(step, "labels", labels).shape
            last, second = given == shape[:-1], given == (n, *shape[2:])
            if last != second:
                return Layout(given[1:], second)
            beside = f" beside labels of shape {given}"
            if last:
                raise ValueError(
                    "logits of several samples an input must tell classes from "
                    f"positions, got {shape}{beside} in batch {step}, which is "
                    "(batch, ..., C) and (batch, C, ...); give inputs of another length"
                )
        raise ValueError(
            f"model must give logits of shape (batch, C) with batch = {n}, or "
            "(batch, ..., C) or (batch, C, ...) with a label for each of ..., got "
            f"{shape}{beside} in batch {step}; wrap it so that it does"
        )

    def chosen(self, z: Any) -> Any:
        """Return the logits (n, C) of the classes that are kept."""
        if self.classes is None:
            return z
        expect_classes(self.classes, z.shape[1])
        return z[:, np.asarray(self.classes)]

    def outputs(
        self,
        step: int,
        logits: Any,
        labels: Any,
        n: int,
        layout: Layout = Layout(),
    ) -> dict[str, np.ndarray]:
        """Return labels, logits (n S, C) and, if there are any, weights of n inputs.

        Logits are on the host; labels are in 0..C-1, or -1 for none; all weights
        together do not have sum 1 yet.
        """
        S = layout.samples
        if getattr(logits, "ndim", 0) != 2 or len(logits) != n * S:
            got = tuple(logits.shape) if hasattr(logits, "shape") else type(logits)
            raise ValueError(
                f"model must give logits of shape (batch, C) with batch = {n}, got "
                f"{got}; wrap it so that it does"
            )
        C = logits.shape[1]
        if C < 2:
            raise ValueError(
                f"model must give C >= 2 logits, got {C}; give a binary classifier "
                "both, (0, z) for a single logit z"
            )
        expect_precise(logits.dtype)
        if layout.positions:
            labels = as_array(step, "labels", labels).reshape(-1)
        labels = _labels(step, labels, n * S, C, self)
        made = {"labels": labels, "logits": host(logits)}
        s = self._weights(step, n)
        if s is None and self.class_weights is None:
            return made
        s = np.ones(n * S) if s is None else np.repeat(s, S)
        if self.class_weights is not None:
            _expect_weights("class_weights", self.class_weights, ("C", C))
            s = s * self.class_weights[labels]
        return made | {"sample_weights": s.astype(np.float64)}

    def _weights(self, step: int, n: int) -> np.ndarray | None:
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


def expect_smoothing(given: Any) -> None:
    """Refuse all but a number in [0, 1)."""
    if isinstance(given, bool) or not isinstance(given, numbers.Real):
        raise TypeError(
            f"label_smoothing must be a number in [0, 1), got {type(given).__name__}; "
            "give that of the loss"
        )
    if not 0 <= float(given) < 1:
        raise ValueError(
            f"label_smoothing must lie in [0, 1), got {given}; give that of the loss"
        )


def _labels(step: int, given: Any, n: int, C: int, how: Reading) -> np.ndarray:
    """Return labels as integers in 0..C-1, -1 for those that are ignored."""
    labels = as_array(step, "labels", given)
    if labels.dtype.kind in "OUS" and labels.shape == (n,):
        labels = _numbered(step, labels, how.class_names)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape (batch,) = ({n},), got {labels.dtype} "
            f"of shape {labels.shape} in batch {step}; {_instead(labels, n, C)}"
        )
    ignored = how.ignore_index
    kept = np.ones(n, dtype=bool) if ignored is None else labels != ignored
    wrong = labels[kept & ((labels < 0) | (labels >= C))]
    if wrong.size:
        advice = "number the classes from 0"
        if wrong.max() < 0 and ignored is None:
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


def as_names(given: Any) -> list[str]:
    """Return class names as strings; numbers may be names."""
    loose = isinstance(given, str | bytes | Mapping | Set)
    names = [] if loose or not isinstance(given, Iterable) else list(given)
    if not names or not all(isinstance(x, str | numbers.Integral) for x in names):
        raise TypeError(
            f"class_names must be a list of C names, got {shown(given, 60)}; give one "
            "string a class, in the order of the logits"
        )
    return [str(x) for x in names]


def normalised(weights: np.ndarray) -> np.ndarray:
    """Return weights of sum 1."""
    total = float(np.sum(weights))
    if not 0 < total < np.inf:
        raise ValueError(
            f"weights of all samples must have a finite sum > 0, got {total}; weigh one"
        )
    return weights / total
