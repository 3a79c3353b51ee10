"""The field's usual convention mistakes, each as the operator that it computes.

A mistake is a scalar (a sum where a mean belongs), or the right answer to another
question (other labels, another order, another setting), or both. All are applied
to the same probes as the operator under test, and one is named only if it fits within
its own bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from refspec import models
from refspec.kronecker import Kronecker, kfac
from refspec.models import evaluation
from refspec.testing import otherwise
from refspec.testing.inputs import ORDERS, order_places
from refspec.testing.questions import (
    MOMENTS,
    Operator,
    Question,
    of_blocks,
    operator,
    with_errors,
)


@dataclass(frozen=True, slots=True, eq=False)
class Mistake:
    """One way to be wrong: the sentence says what was done, and what to do.

    The accuracy of `question` bounds it, `build` returns its operator; `same_spectrum`
    means that eigenvalues cannot show it.
    """

    name: str
    sentence: str
    question: Question
    build: Callable[[], Operator]
    same_spectrum: bool = False


def scales(question: Question) -> dict[str, tuple[float, str]]:
    """Return the usual wrong factors by name, with their explanation.

    Factors that coincide, such as N = 2 and 2, are all kept.
    """
    N, C = question.snapshot.probabilities.shape
    T = max(question.snapshot.layer(x).features.shape[1] for x in question.layers)
    found = {
        "factor N": (
            N,
            f"factor 1/N missing: the loss is summed over the N = {N} samples where "
            "refspec averages; use the mean reduction or divide by N",
        ),
        "factor 1/N": (
            1 / N,
            f"one factor 1/N too many, N = {N}: averaged twice; multiply by N",
        ),
        "factor NC": (
            N * C,
            f"factor 1/(NC) missing, N = {N}, C = {C}; divide by NC",
        ),
        "factor 1/C": (
            1 / C,
            f"averaged over the C = {C} labels as well, 1/(NC) in place of 1/N: the "
            "sum over labels is weighted by p already; multiply by C",
        ),
        "factor C": (C, f"multiplied by the number of classes C = {C}; divide by C"),
        "factor C - 1": (
            C - 1,
            f"multiplied by C - 1 = {C - 1}: the 2019 convention's plain mean over "
            "c' != c, C - 1 of them; divide by C - 1",
        ),
        "factor 1/(C - 1)": (
            1 / (C - 1),
            f"averaged over C - 1 = {C - 1} other labels; multiply by C - 1",
        ),
        "factor C/(C - 1)": (
            C / (C - 1),
            f"C - 1 in place of C = {C} in a mean over labels; multiply by (C - 1)/C",
        ),
        "factor (C - 1)/C": (
            (C - 1) / C,
            f"C = {C} in place of C - 1 in a mean over labels; multiply by C/(C - 1)",
        ),
        "factor 2": (2.0, "factor 2: a loss without its 1/2, or x'Ax for half of it"),
        "factor 1/2": (0.5, "factor 1/2: half of the curvature, as in 1/2 x'Ax"),
        "sign": (-1.0, "the sign is reversed: log-likelihood in place of the loss"),
    }
    if N > 1:
        found["factor N/(N - 1)"] = (
            N / (N - 1),
            f"N - 1 = {N - 1} in place of N: a sample covariance; use the plain mean",
        )
    if T > 1:
        found["factor T"] = (
            T,
            f"factor T = {T}: features summed, not averaged, over the positions",
        )
        found["factor 1/T"] = (
            1 / T,
            f"factor 1/T, T = {T}: errors averaged over the positions as well",
        )
    return {key: x for key, x in found.items() if x[0] != 1}


def structures(question: Question, order: str | np.ndarray) -> Iterator[Mistake]:
    """Yield every other question that the answer may belong to."""
    yield from _labels(question)
    yield from _kinds(question)
    yield from _positions(question)
    yield from _biases(question)
    yield from _orders(question, order)
    yield from _blocks(question)
    yield from _otherwise(question)


def _otherwise(q: Question) -> Iterator[Mistake]:
    """Run the same network in training, or cut its patches at another stride."""
    if q.of in MOMENTS:
        for constant in (False, True):
            other = otherwise.batch_statistics(q, constant)
            if other is not None:
                how = "constants in it" if constant else "differentiated too"
                text = (
                    "batch norm in training mode, by the statistics of the batch, "
                    f"{how}: call model.eval()"
                )
                yield _of(other, "train-mode batch norm", text)
    if q.of == "kfac":
        for how, blocks in otherwise.unstrided(q):
            text = (
                "the features' factor of a convolution is of patches at stride 1, "
                f"{how}; cut them at its stride"
            )
            yield Mistake("stride", text, q, partial(of_blocks, blocks))


def _labels(q: Question) -> Iterator[Mistake]:
    """Other labels that errors are averaged over."""
    snapshot = q.snapshot
    N, C = snapshot.probabilities.shape
    if q.of == "hessian":
        return
    if q.of in ("fisher", "gauss_newton"):
        other = replace(q, of="empirical_fisher")
    else:
        other = replace(q, fisher="empirical")
    if q.of == "empirical_fisher":
        other = replace(q, of="fisher")
        text = "the model's Fisher (labels drawn from p), not the empirical one"
        yield _of(other, "model Fisher", text)
        return
    text = (
        "empirical Fisher: gradients at the observed labels; the Fisher averages over "
        "labels from the model's own p"
    )
    yield _of(other, "empirical Fisher", text)
    J = _jacobians(q)
    if J is not None:
        text = (
            "missing centring: diag(p), E[yy'], in place of diag(p) - pp'; the errors "
            "are J'(p - e_c'), not J'e_c'"
        )
        yield _of(with_errors(q, J), "missing centring", text)
    uniform = with_errors(q, {}, np.full((N, C), 1 / C))
    text = "labels averaged with 1/C in place of the probabilities p"
    yield _of(uniform, "uniform labels", text)
    s = snapshot.sample_weights
    if np.ptp(s) > 0:
        plain = replace(q, snapshot=replace(snapshot, sample_weights=np.full(N, 1 / N)))
        text = "sample weights ignored: 1/N for every sample"
        yield _of(plain, "plain sample average", text)


def _kinds(q: Question) -> Iterator[Mistake]:
    """Other curvatures of the same network."""
    text = {
        "fisher": "the Gauss-Newton matrix (= Fisher), without the second derivatives "
        "of the network that the Hessian has",
        "hessian": "the Hessian, not the Gauss-Newton matrix: it has the second "
        "derivatives of the network too",
        "kfac": "KFAC, the product of the means of the two factors",
        "ekfac": "EKFAC, with variances along KFAC's eigenvectors",
        "cfac": "CFAC, the class-wise sum of Kronecker products",
    }
    for kind, sentence in text.items():
        asked = "fisher" if q.of == "gauss_newton" else q.of
        if kind == asked or (kind == "hessian" and q.snapshot.model is None):
            continue
        if q.named and kind != "fisher":
            continue  # a moment knows no layers
        names = {"fisher": "Gauss-Newton", "hessian": "Hessian"}
        other = replace(q, of=kind, fisher="exact")
        yield _of(other, names.get(kind, kind.upper()), sentence)


def _positions(q: Question) -> Iterator[Mistake]:
    """Expand against reduce, and one factor of each."""
    T = max(q.snapshot.layer(x).features.shape[1] for x in q.layers)
    if T == 1 or q.of not in ("kfac", "ekfac", "cfac"):
        return
    other = "reduce" if q.setting == "expand" else "expand"
    text = {
        "reduce": "KFAC-reduce: features averaged and errors summed over the "
        f"T = {T} positions first; ask with setting='reduce'",
        "expand": f"KFAC-expand: the T = {T} positions as separate samples; ask with "
        "setting='expand'",
    }
    yield _of(replace(q, setting=other), f"setting {other}", text[other])
    if q.of == "kfac":
        for left, right in (("reduce", "expand"), ("expand", "reduce")):
            yield Mistake(
                f"errors {left}, features {right}",
                f"a mixture: errors {left}, features {right} (BackPACK sums errors "
                "over positions but not features)",
                q,
                partial(_mixed, q, left, right),
            )
        every = [q.snapshot.layer(x).features.shape[1] for x in q.layers]
        if len(set(every)) > 1:  # one T for all is a factor of the whole
            each = ", ".join(map(str, every))
            sentence = (
                f"a factor T of each layer, {each}: features summed, not averaged"
            )
            yield Mistake("T by layer", sentence, q, partial(_times_positions, q, 1))
            sentence = f"a factor 1/T of each layer, T = {each}: averaged twice over T"
            yield Mistake("1/T by layer", sentence, q, partial(_times_positions, q, -1))
        summed = (
            "errors summed over positions and features summed over them, not averaged; "
            "weights and biases apart (BackPACK's KFLR of a convolution)"
        )
        yield Mistake("positions summed, bias apart", summed, q, partial(_summed, q))


def _times_positions(q: Question, power: int) -> Operator:
    """KFAC with each layer's block times T, or over it."""
    blocks = []
    for name in q.layers:
        K = kfac(q.snapshot, name, setting=q.setting, fisher=q.fisher)
        T = q.snapshot.layer(name).features.shape[1]
        blocks.append(Kronecker(T**power * K.left, K.right))
    return of_blocks(blocks)


def _summed(q: Question) -> Operator:
    """KFAC of errors summed and features summed over positions, biases apart."""
    blocks = []
    for name, biased in zip(q.layers, q.biased, strict=True):
        how: dict[str, Any] = {"fisher": q.fisher}
        left = kfac(q.snapshot, name, setting="reduce", **how).left
        right = np.array(kfac(q.snapshot, name, setting="expand", **how).right)
        T = q.snapshot.layer(name).features.shape[1]
        if biased:
            right[-1, :-1] = right[:-1, -1] = 0
            right[-1, -1] /= T  # a bias has one number for all positions
        blocks.append(Kronecker(left, T * right))
    return of_blocks(blocks)


def _biases(q: Question) -> Iterator[Mistake]:
    """Biases left out, or apart from their weights."""
    if not any(q.biased):
        return
    bias = np.concatenate(
        [
            np.ravel(np.broadcast_to(np.arange(a) == (a - 1 if has else -1), (b, a)))
            for (b, a), has in zip(q.shapes, q.biased, strict=True)
        ]
    )
    part = {False: ~bias, True: bias}

    def masked(keep: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        true = operator(q)
        return lambda V: keep[:, None] * true.apply(keep[:, None] * V)

    def only() -> Operator:
        return _dense_spectrum(masked(part[False]), len(bias))

    def apart() -> Operator:
        one, two = masked(part[False]), masked(part[True])
        return _dense_spectrum(lambda V: one(V) + two(V), len(bias))

    text = (
        "the bias is left out: features need the appended one, a last column equal to 1"
    )
    yield Mistake("bias left out", text, q, only)
    text = (
        "weights and biases as separate blocks: their cross-block is missing "
        "(curvlinops' default; BackPACK): treat the bias as a last feature"
    )
    yield Mistake("bias apart", text, q, apart)


def _orders(q: Question, order: str | np.ndarray) -> Iterator[Mistake]:
    """Parameters in another order than was said."""
    said = order_places(q, order)
    names = {
        "row_major": "errors (x) features, rows of [W bias]",
        "column_stacked": "features (x) errors: the Kronecker factors are transposed",
        "torch": "torch's order, a layer's weight and then its bias",
        "jax": "the order of a flattened flax tree, bias and then kernel (in, out)",
    }
    for name in ORDERS:
        if isinstance(order, str) and name == order:
            continue
        places = order_places(q, name)
        if not np.array_equal(places, said):
            yield Mistake(
                f"order {name}",
                f"parameters are in {names[name]}; pass order={name!r}",
                q,
                partial(_reordered, q, said, places),
                True,
            )
    every, slices = np.arange(q.parameters), q.slices
    for turn in _turns(q.layers):
        places = np.empty_like(every)
        places[np.concatenate([every[slices[k]] for k in turn])] = every
        names_there = ", ".join(q.layers[k] for k in turn)
        yield Mistake(
            "layer order",
            f"layers are in another order: {names_there}",
            q,
            partial(_reordered, q, said, said[places]),
            True,
        )


def _turns(names: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Return other orders: all of four, else reversed, sorted, biases first or last."""
    there = tuple(range(len(names)))
    if len(names) <= 4:
        return list(itertools.permutations(there))[1:]
    keys: list[Callable[[int], Any]] = [
        lambda k: -k,
        lambda k: names[k],
        lambda k: names[k].endswith("bias"),
        lambda k: not names[k].endswith("bias"),
    ]
    found = {tuple(sorted(there, key=key)) for key in keys}
    return sorted(found - {there})


def _blocks(q: Question) -> Iterator[Mistake]:
    """Layer blocks only: of the matrix itself, or of the one that KFAC approximates."""
    if len(q.layers) < 2:
        return
    name, text = "block-diagonal", "block-diagonal: curvature between layers is dropped"
    if q.of in ("kfac", "ekfac", "cfac"):
        q = replace(q, of="fisher", fisher="exact")
        name, text = "Gauss-Newton blocks", "the exact blocks, not approximated"

    def diagonal() -> Operator:
        parts = [operator(replace(q, layers=(x,))) for x in q.layers]

        def apply(V: np.ndarray) -> np.ndarray:
            cut = zip(parts, q.slices, strict=True)
            return np.concatenate([p.apply(V[part]) for p, part in cut])

        def values() -> np.ndarray:
            every = np.concatenate([p.eigenvalues() for p in parts])
            return np.sort(every)[::-1]

        return Operator(apply, values)

    yield Mistake(name, text, q, diagonal)


def _of(question: Question, name: str, sentence: str) -> Mistake:
    return Mistake(name, sentence, question, partial(operator, question))


def _reordered(q: Question, said: np.ndarray, places: np.ndarray) -> Operator:
    """Read a vector that is in the order `places` as if it were in the order `said`."""
    true = operator(q)
    move = np.empty_like(said)
    move[said] = np.arange(len(said))
    index = move[places]  # refspec's parameter k stands where the reader sees index[k]

    def apply(V: np.ndarray) -> np.ndarray:
        out = np.empty_like(V)
        out[index] = true.apply(V[index])
        return out

    return Operator(apply, true.eigenvalues)


def _mixed(q: Question, left: str, right: str) -> Operator:
    """KFAC with a setting for each factor."""
    how: dict[str, Any] = {"fisher": q.fisher}
    blocks = [
        Kronecker(
            kfac(q.snapshot, x, setting=left, **how).left,
            kfac(q.snapshot, x, setting=right, **how).right,
        )
        for x in q.layers
    ]
    return of_blocks(blocks)


def _jacobians(q: Question) -> dict[str, np.ndarray] | None:
    """Return J'e_c' of each layer, shape (N, C, T, b), if the network is known."""
    section = q.snapshot.model
    if section is None:
        return None
    try:
        network = models.from_section(section)
        steps, f = evaluation.forward(network, np.asarray(section.inputs))
    except ValueError:  # operations that refspec does not know
        return None
    every = np.broadcast_to(np.eye(f.shape[1]), (f.shape[0], f.shape[1], f.shape[1]))
    found = evaluation.backpropagate(steps, np.ascontiguousarray(every), np)
    return {step.name: errors for step, errors in found}


def _dense_spectrum(apply: Callable[[np.ndarray], np.ndarray], P: int) -> Operator:
    def values() -> np.ndarray:
        A = apply(np.eye(P))
        return np.linalg.eigvalsh((A + A.T) / 2)[::-1]

    return Operator(apply, values)
