"""What an operator is compared with: one question, its true operator and its spectrum.

A question names a snapshot, some of its layers and a kind of curvature; every usual
mistake (see `mistakes`) is the true answer to another question. Host arithmetic,
float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refspec import backend, checks, coverage, curvature, hessian, models
from refspec.backend import Array
from refspec.classes import Layer, ModelSection, Snapshot
from refspec.curvature import SecondMoment
from refspec.hessian.assembly import chosen, places
from refspec.kronecker import BlockDiagonal, cfac, ekfac, kfac
from refspec.spectra import eigenvalues, spectrum

#: What can be asked for. Gauss-Newton is the Fisher of the cross-entropy.
KINDS = (
    "fisher",
    "gauss_newton",
    "empirical_fisher",
    "hessian",
    "kfac",
    "ekfac",
    "cfac",
)
#: Those of a moment's rows, layers or not.
MOMENTS = ("fisher", "gauss_newton", "empirical_fisher")
_HELD = 2**28  # bytes of a moment's rows that are held
_KRONECKER: dict[str, Callable[..., Any]] = {"kfac": kfac, "ekfac": ekfac, "cfac": cfac}


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Which curvature of which layers of which snapshot."""

    snapshot: Snapshot  # on the host, float64
    layers: tuple[str, ...]  # in the order of the parameter vector
    of: str  # one of KINDS
    setting: str = "expand"  # how KFAC, EKFAC and CFAC treat positions, or "reduce"
    fisher: str = "exact"  # labels that these average over, or "empirical"
    lost: float = 0.0  # error of the rows of a moment by differentiation, as measured
    named: bool = False  # layers are parameters by name, of a moment

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Outputs b and inputs a of each layer."""
        chosen = [self.snapshot.layer(x) for x in self.layers]
        return [(x.errors.shape[3], x.features.shape[2]) for x in chosen]

    @property
    def slices(self) -> list[slice]:
        """Where each layer's parameters are among the P."""
        return slices(b * a for b, a in self.shapes)

    @property
    def parameters(self) -> int:
        """P."""
        return int(sum(b * a for b, a in self.shapes))

    @property
    def biased(self) -> list[bool]:
        """Whether the last feature of each layer is the 1 of a bias.

        Where that is not stated, a last feature equal to 1 is taken for one.
        """
        stated, found = coverage.biases(self.snapshot), []
        for name in self.layers:
            h, said = self.snapshot.layer(name).features, stated[name]
            found.append(bool(np.all(h[:, :, -1] == 1)) if said is None else said)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """A symmetric operator as two functions, in the order errors (x) features."""

    apply: Callable[[np.ndarray], np.ndarray]
    eigenvalues: Callable[[], np.ndarray]


def ask(
    expected: Snapshot | SecondMoment,
    of: str,
    layer: str | tuple[str, ...] | None,
    setting: str,
) -> Question:
    """Check the names and bring a snapshot, or a moment as one, to the host."""
    advice = "make one with refspec.snapshot(...)"
    checks.expect_type("snapshot", expected, (Snapshot, SecondMoment), advice)
    checks.expect_choice("of", of, KINDS)
    checks.expect_choice("setting", setting, ("expand", "reduce"))
    snapshot, lost = expected, 0.0
    if isinstance(snapshot, SecondMoment):
        if of not in MOMENTS:
            raise ValueError(
                f"of must be one of {MOMENTS} for a moment, got {of!r}: it knows "
                "its rows and no layers; give a snapshot"
            )
        lost, snapshot = snapshot.rows.forming(), of_moment(snapshot)
    if of == "hessian" and snapshot.model is None:
        raise ValueError(
            "of 'hessian' needs a snapshot with a model section, got none; export the "
            "network as a sequential model, or use of 'fisher'"
        )
    names = tuple(x.name for x in snapshot.layers)
    if layer is not None:
        wanted = (layer,) if isinstance(layer, str) else layer
        known, names = names, checks.expect_names("layer", wanted, names)
        if not names:
            raise ValueError(
                f"layer must name at least one layer, got none; choose from {known}"
            )
    named = snapshot is not expected
    host = host_snapshot(snapshot)
    return Question(host, names, of, setting, lost=lost, named=named)


def of_moment(moment: SecondMoment) -> Snapshot:
    """Return a Fisher's rows as a snapshot: a layer for each parameter, by its name.

    Its errors are the gradients, its one feature is 1.
    """
    N, C, P = moment.rows.shape
    if not moment.scored or moment.projection is not None:
        raise ValueError(
            "a moment must be a Fisher information, its rows those of all C labels, "
            "got a level or another one; give refspec.fisher(...) or what "
            "refspec.torch.moment returns"
        )
    if N * C * P * 8 > _HELD:
        raise ValueError(
            f"a moment's rows must fit into {_HELD} bytes here, got N = {N}, C = {C}, "
            f"P = {P}: {8 * N * C * P}; give fewer samples or parameters"
        )
    w = np.asarray(backend.to_host(moment.weights), dtype=np.float64)
    chunks = [backend.to_host(x) for x in moment.rows.chunks()]
    X = np.concatenate(chunks).astype(np.float64).reshape(N, C, P)
    roots = np.sqrt(w)[:, :, None]
    gradients = np.divide(X, roots, out=np.zeros_like(X), where=roots > 0)
    s = w.sum(axis=1)
    blocks = getattr(moment, "blocks", ()) or (("parameters", P),)
    return Snapshot(
        as_layers(gradients, blocks),
        w / s[:, None],
        np.repeat(np.arange(C), np.diff(moment.offsets)),
        s / s.sum(),
        {"biases": {name: False for name, _ in blocks}},
    )


def as_layers(
    gradients: np.ndarray, blocks: Iterable[tuple[str, int]]
) -> tuple[Layer, ...]:
    """Return gradients (N, C, P) as errors, a layer a block (name, size)."""
    names, sizes = zip(*blocks, strict=True)
    one, parts = np.ones((len(gradients), 1, 1)), slices(sizes)
    return tuple(
        Layer(name, one, gradients[:, :, None, part])
        for name, part in zip(names, parts, strict=True)
    )


def parameter_groups(q: Question) -> list[tuple[str, str, np.ndarray]]:
    """Return the parameters that come and go together: layer, part, which they are."""
    groups = []
    for layer, part, (_, a), biased in zip(
        q.layers, q.slices, q.shapes, q.biased, strict=True
    ):
        whole, bias = np.zeros((2, q.parameters), dtype=bool)
        whole[part] = True
        bias[part.start + a - 1 : part.stop : a] = biased
        if biased:
            groups += [(layer, "weight", whole & ~bias), (layer, "bias", bias)]
        else:
            groups.append((layer, "" if q.named else "weight", whole))
    return groups


def slices(sizes: Iterable[int]) -> list[slice]:
    """Return where blocks of these sizes are in the vector that they make up."""
    ends = [0, *itertools.accumulate(sizes)]
    return [slice(i, j) for i, j in itertools.pairwise(ends)]


def host_snapshot(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot as NumPy arrays of float64, its values unchanged."""

    def host(x: Array) -> np.ndarray:
        return np.asarray(backend.to_host(x), dtype=np.float64)

    model = snapshot.model
    if model is not None:
        parameters = {k: host(v) for k, v in model.parameters.items()}
        model = ModelSection(host(model.inputs), model.operations, parameters)
    layers = tuple(
        Layer(x.name, host(x.features), host(x.errors)) for x in snapshot.layers
    )
    # rows of narrower numbers sum to 1 within their own rounding only
    p, s = host(snapshot.probabilities), host(snapshot.sample_weights)
    kept = {"dtype": str(snapshot.probabilities.dtype).rsplit(".")[-1]}
    return Snapshot(
        layers,
        p / p.sum(axis=1, keepdims=True),
        snapshot.labels,
        s / s.sum(),
        kept | dict(snapshot.provenance),
        model,
    )


def operator(question: Question) -> Operator:
    """Return what refspec computes for a question."""
    snapshot, names = question.snapshot, question.layers
    if question.of in ("fisher", "gauss_newton"):
        return _moment(curvature.fisher(snapshot, names))
    if question.of == "empirical_fisher":
        return _moment(curvature.empirical_fisher(snapshot, names))
    if question.of == "hessian":
        return _hessian(question)
    build = _KRONECKER[question.of]
    how: dict[str, Any] = {"setting": question.setting, "fisher": question.fisher}
    return of_blocks([build(snapshot, x, **how) for x in names])


def of_blocks(blocks: Sequence[Any]) -> Operator:
    """Return the operator of a block a layer."""
    whole = BlockDiagonal(tuple(blocks))
    return Operator(whole.matvec, lambda: np.asarray(whole.eigenvalues()))


def _moment(moment: SecondMoment) -> Operator:
    def values() -> np.ndarray:
        found, P = np.asarray(spectrum(moment).values), moment.shape[1]
        return np.sort(np.pad(found, (0, max(0, P - len(found)))))[::-1][:P]

    return Operator(moment.matvec, values)


def _hessian(question: Question) -> Operator:
    snapshot = question.snapshot
    apply = hessian_products(question, snapshot.labels, snapshot.sample_weights)

    def values() -> np.ndarray:
        network, _ = models.of_snapshot(snapshot)
        H = hessian.of_snapshot(snapshot, list(chosen(network, question.layers)))
        return np.asarray(eigenvalues(H, np)[0])

    return Operator(apply, values)


def hessian_products(
    question: Question, labels: np.ndarray, weights: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the product of the Hessian at labels (N,) and sample weights (N,).

    Made in the network's own order of layers, permuted to the question's.
    """
    network, X = models.of_snapshot(question.snapshot)
    shapes = chosen(network, question.layers)
    place = places(shapes, question.layers)

    def apply(V: np.ndarray) -> np.ndarray:
        moved = np.empty_like(V)
        moved[place] = V
        out = hessian.hessian_vector_product(
            network, X, labels, moved, layers=list(shapes), sample_weights=weights
        )
        back: np.ndarray = np.asarray(out)[place]
        return back

    return apply


def with_errors(
    question: Question, errors: dict[str, np.ndarray], p: np.ndarray | None = None
) -> Question:
    """Ask the same of other errors, or other probabilities (N, C)."""
    old = question.snapshot
    layers = tuple(
        Layer(x.name, x.features, errors.get(x.name, x.errors)) for x in old.layers
    )
    p = old.probabilities if p is None else p
    # without its network: that would bound the errors it makes, not these
    changed = replace(old, layers=layers, probabilities=p, model=None)
    return replace(question, snapshot=changed)
