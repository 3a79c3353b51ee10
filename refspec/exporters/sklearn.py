"""Export a fitted scikit-learn classifier: MLPClassifier or LogisticRegression.

Both are networks that `refspec.models` knows, so they are rebuilt from their
coefficients, run in plain arrays, and stored with the export.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refspec import models
from refspec.classes import Snapshot
from refspec.models import Network, evaluation
from refspec.models.recompute import same_probabilities

try:
    import sklearn
    from sklearn.exceptions import NotFittedError
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    from refspec.exporters import checking, delivery, feeding
    from refspec.exporters.reading import Reading, expect_classes
except ImportError as error:
    raise ImportError(
        "the scikit-learn exporter needs scikit-learn and rich, which are not "
        "installed; pip install 'refspec[sklearn]'"
    ) from error

_ACTIVATIONS = {
    "identity": "identity",
    "logistic": "sigmoid",
    "relu": "relu",
    "tanh": "tanh",
}


def export(
    model: MLPClassifier | LogisticRegression | Pipeline,
    loader: Iterable[Any],
    path: str | os.PathLike[str] | None,
    layers: Sequence[str] | None = None,
    *,
    exclude: Sequence[str] = (),
    classes: Sequence[int] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    recomputed: bool = False,
    progress: bool = True,
) -> Path | Snapshot:
    """Write an export of a classifier over the samples of a loader.

    Parameters
    ----------
    model : MLPClassifier, LogisticRegression, or Pipeline that ends in one
        Fitted. The steps before it in a pipeline are applied to the inputs.
    loader : iterable of (inputs, labels)
        Batches, for two arrays ``[(X, y)]``; labels as they were in the fit.
    layers, exclude : sequence of str, optional
        Some of the layers, which are called coefs_0, coefs_1, ... (coef for a
        LogisticRegression); all of them by default.
    classes : sequence of int, optional
        Keep these of the model's ``classes_`` only, by position.
    path, class_weights, sample_weights, class_names, provenance, recomputed, progress
        See `refspec.exporters`; the names are by default the model's ``classes_``.

    Returns
    -------
    Path or Snapshot
        The path, or the Snapshot if `path` is None.

    Raises
    ------
    TypeError
        If the model is none of these, or loader or an option is of another type.
    ValueError
        If it is not fitted, is not a softmax over classes (one against the rest,
        several labels a sample), does not give the probabilities of its coefficients,
        or the batches do not fit.
    ExportError
        If the path cannot be written.

    Notes
    -----
    A binary classifier has one logit z. It is exported as the softmax of (0, z), which
    has the same probabilities, features and errors of the hidden layers; its last layer
    then has two rows, the first of them 0. If F is the Fisher of the one row, that of
    the two is [[F, -F], [-F, F]]: the last block's eigenvalues double. Cost: one
    forward and C backward passes a batch, in the dtype of the coefficients. On two
    batches the model's ``predict_proba`` is compared with the softmax of the network.

    Examples
    --------
    >>> X, y = np.eye(6, 3), ["no", "yes"] * 3
    >>> made = export(LogisticRegression().fit(X, y), [(X, y)], None)
    >>> [(x.name, x.features.shape, x.errors.shape) for x in made.layers]
    [('coef', (6, 1, 4), (6, 2, 1, 2))]
    >>> made.provenance["class_names"]
    ['no', 'yes']
    """
    final = model.steps[-1][1] if isinstance(model, Pipeline) and model.steps else model
    if not isinstance(final, MLPClassifier | LogisticRegression):
        raise TypeError(
            "model must be an MLPClassifier, a LogisticRegression or a Pipeline that "
            f"ends in one, got {type(final).__name__}; export its network by hand with "
            "refspec.models"
        )
    _expect_fitted(final)
    network, kept = _network(final), list(final.classes_)
    known = list(models.layer_shapes(network))
    chosen = delivery.choose_layers(layers, known, known, "", exclude)
    how = Reading(class_weights=class_weights, sample_weights=sample_weights)
    _, batches, total = feeding.open_loader(loader)
    whole = network
    if classes is not None:
        expect_classes(classes, len(kept))
        kept = [kept[k] for k in classes]
        network = _restricted(network, classes)
    names = [str(x) for x in kept] if class_names is None else class_names
    shapes = models.layer_shapes(whole)
    left_out = {name: b * a for name, (b, a) in shapes.items() if name not in chosen}
    if len(kept) < len(final.classes_) and known[-1] in chosen:  # a part of the layer
        (b, a), (few, _) = shapes[known[-1]], models.layer_shapes(network)[known[-1]]
        left_out[known[-1]] = (b - few) * a
    layers_of = {x["name"]: x for x in network.operations if "weight" in x}
    reader = _Reader(model, final, whole, network, kept, how, chosen)
    return delivery.deliver(
        reader.rows(batches, checking.checked_steps(total, np.random.default_rng(0))),
        path,
        {key: feeding.host(x) for key, x in network.parameters.items()},
        framework=("sklearn", sklearn.__version__),
        architecture=" ".join(repr(model).split()),
        layers=chosen,
        operations=network.operations,
        left_out=left_out,
        biases={name: layers_of[name]["bias"] is not None for name in chosen},
        class_names=names,
        provenance=provenance,
        total=total,
        recomputed=recomputed,
        progress=progress,
        how=how,
    )


def _expect_fitted(final: MLPClassifier | LogisticRegression) -> None:
    try:
        check_is_fitted(final)
    except NotFittedError as error:
        raise ValueError(
            f"model must be fitted, got one that is not fitted, {final!r}; call fit"
        ) from error


def _network(final: MLPClassifier | LogisticRegression) -> Network:
    """Rebuild the classifier as a network with C logits."""
    C = len(final.classes_)
    if isinstance(final, MLPClassifier):
        if np.ndim(final.classes_) != 1 or (
            final.out_activation_ != "softmax" and final.n_outputs_ != 1
        ):
            raise ValueError(
                f"an MLPClassifier must end in a softmax over C classes, got "
                f"{final.n_outputs_} outputs through {final.out_activation_!r}; one "
                "fitted to several labels a sample has no class for each sample"
            )
        weights = [x.T for x in final.coefs_]
        biases = list(final.intercepts_)
        names = [f"coefs_{k}" for k in range(len(weights))]
        between = _ACTIVATIONS[final.activation]
    else:
        separate = getattr(final, "multi_class", "auto") == "ovr"
        if C > 2 and (separate or final.solver == "liblinear"):
            raise ValueError(
                f"a LogisticRegression of C = {C} classes must be multinomial, got one "
                "against the rest, whose probabilities are no softmax; fit it with "
                "solver='lbfgs'"
            )
        sparse = hasattr(final.coef_, "toarray")  # after sparsify()
        weights = [final.coef_.toarray() if sparse else final.coef_]
        names, between = ["coef"], ""
        biases = [final.intercept_ if final.fit_intercept else None]
    if len(weights[-1]) == 1:  # a single logit z, as (0, z)
        weights[-1] = np.concatenate([0 * weights[-1], weights[-1]])
        if biases[-1] is not None:
            biases[-1] = np.concatenate([0 * biases[-1], biases[-1]])
    chain: list[dict[str, Any]] = []
    parameters = {}
    for name, W, b in zip(names, weights, biases, strict=True):
        bias = None if b is None else name.replace("coef", "intercept")
        chain += [{"op": between}] if chain else []
        chain.append({"op": "linear", "name": name, "weight": name, "bias": bias})
        parameters[name] = np.array(W)
        if bias is not None:
            parameters[bias] = np.asarray(b).astype(W.dtype)
    return Network(chain, parameters)


def _restricted(network: Network, classes: Sequence[int]) -> Network:
    """Return the network with some of its logits."""
    last, parameters = network.operations[-1], dict(network.parameters)
    for role in ("weight", "bias"):
        if last[role] is not None:
            parameters[last[role]] = parameters[last[role]][np.asarray(classes)]
    return Network(network.operations, parameters)


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """A classifier and its network at work on batches."""

    model: Any  # as it was given, perhaps a pipeline
    final: Any  # the classifier
    whole: Network  # with all of its classes
    network: Network
    kept: list[Any]  # the classes
    how: Reading
    chosen: Sequence[str]

    def rows(
        self, batches: Iterable[tuple[Any, Any]], checked: set[int]
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of the schema batch by batch."""
        dtype = next(iter(self.network.parameters.values())).dtype
        for step, (given, labels) in enumerate(batches):
            X = self._inputs(step, given, dtype)
            steps, z = evaluation.forward(self.network, X)
            numbered = _numbers(step, self.kept, labels)
            made = self.how.outputs(step, z, numbered, len(X))
            if step in checked:
                self._check(step, X)
            seeds = delivery.all_seeds(z).astype(dtype)
            pulled = evaluation.backpropagate(steps, seeds, np)
            found = {x.name: (x.features, e) for x, e in pulled}
            yield delivery.row(X, made, [found[x] for x in self.chosen])

    def _inputs(self, step: int, given: Any, dtype: Any) -> np.ndarray:
        """Return what enters the classifier, in the dtype of its coefficients."""
        if not hasattr(given, "shape"):
            given = feeding.as_array(step, "inputs", given)
        feeding.expect_samples(step, given.shape)
        if isinstance(self.model, Pipeline):
            expected = "the pipeline's steps must take the inputs"
            with feeding.answering(
                step, expected, "compare them with those of the fit"
            ):
                given = self.model[:-1].transform(given)
        dense = given.toarray() if hasattr(given, "toarray") else given
        X = feeding.as_numbers(step, dense, real=True)
        with np.errstate(over="ignore"):  # an infinity is refused by the network
            return X.astype(dtype)

    def _check(self, step: int, X: np.ndarray) -> None:
        """Compare what the classifier itself gives with its network."""
        with feeding.answering(step, "model must predict the inputs", "fit it again"):
            p = np.asarray(self.final.predict_proba(X))
        if not same_probabilities(self.whole, X, p):
            raise ValueError(
                "model must give the softmax of its coefficients, got other "
                f"probabilities in batch {step}; export its network by hand with "
                "refspec.models"
            )


def _numbers(step: int, classes: list[Any], labels: Any) -> np.ndarray:
    """Return labels as positions in the model's classes."""
    labels = feeding.as_array(step, "labels", labels)
    expected = f"labels must be among the model's classes {classes}"
    with feeding.answering(step, expected, "give them as in the fit"):
        known = np.isin(labels, np.asarray(classes))
    if not np.all(known):
        raise ValueError(
            f"{expected}, got {labels[~known][:3].tolist()} in batch {step}; give them "
            "as in the fit"
        )
    order = np.argsort(np.asarray(classes), kind="stable")
    places = np.searchsorted(np.asarray(classes), labels, sorter=order)
    return np.asarray(order[places])
