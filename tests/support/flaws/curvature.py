"""Flaws of theory/curvature.md."""

from dataclasses import replace

import numpy as np

from refspec import Layer
from support.flaws import Flaw, after, before, features, field, larger, smaller
from support.snapshots import sampled, typical

MOMENT = "refspec.curvature:SecondMoment"
RANK = "refspec.synthetic.linear:fisher_rank"


def two_classes():
    """Cauchy-Schwarz is an equality: there is one other class."""
    return typical(counts=(3, 3))


def two_samples():
    """Cauchy-Schwarz is an equality: deviations of two numbers from their mean."""
    return sampled(0, (2, 2, 2), ((1, 1),), equal=True)


def one_layer_alone():
    """The second layer's gradients are 0: the first's block is the whole."""
    made = typical()
    last = made.layers[1]
    return replace(made, layers=(made.layers[0], replace(last, errors=0 * last.errors)))


def one_direction_ahead():
    """A layer of one parameter, far larger, in samples that the other has none of."""
    made = typical(a=3, b=4)
    first = made.layers[0]
    N, C = made.probabilities.shape
    alone = np.arange(N) == 0
    rest = np.where(alone[:, None, None, None], 0, first.errors)
    one = np.where(alone[:, None, None, None], 10.0, 0) * np.ones((N, C, 1, 1))
    return replace(
        made,
        layers=(
            replace(first, errors=rest),
            Layer("one", np.ones((N, 1, 1)), one),
        ),
    )


def lifted(values, size):
    """Add a part of the largest to all of them, and one that is nothing else."""
    return np.append(values, 0.0) + size * values[0]


def of_blocks(change):
    """Change the Fisher information of chosen layers, not that of all."""

    def wrong(right, size):
        def fisher(snapshot, layers=None):
            blocks = layers is not None and len(layers) < len(snapshot.layers)
            return right(change(snapshot, size) if blocks else snapshot, layers)

        return fisher

    return wrong


def roots(layers, size):
    return tuple(replace(x, roots=larger(x.roots, size)) for x in layers)


FLAWS = (
    Flaw("C1", "products too large", f"{MOMENT}.matvec", after(larger), typical),
    Flaw("C1", "a trace too small", f"{MOMENT}.trace", after(smaller), typical),
    Flaw(
        "C2",
        "Gram matrices too large",
        "refspec.factors:Factors.gram",
        after(larger),
        typical,
    ),
    Flaw("C2", "a matrix too large", f"{MOMENT}.matrix", after(larger), typical),
    Flaw("C3", "products too small", f"{MOMENT}.matvec", after(smaller), typical),
    Flaw(
        "C4",
        "gradients at the label too large",
        "refspec.curvature:empirical_fisher",
        before(features(larger)),
        two_classes,
    ),
    Flaw(
        "C5",
        "reduced rows too large",
        "refspec.curvature:score_reduced",
        after(field("layers", roots)),
        typical,
    ),
    Flaw(
        "C6",
        "a block larger than the whole",
        "refspec.curvature:fisher",
        of_blocks(features(larger)),
        one_layer_alone,
    ),
    Flaw(
        "C6",
        "a block smaller than what is left of the whole",
        "refspec.curvature:fisher",
        of_blocks(features(smaller)),
        one_direction_ahead,
    ),
    Flaw(
        "C7",
        "means of cells too large",
        "refspec.structure:cell_rows",
        after(larger),
        typical,
    ),
    Flaw(
        "C7",
        "means beyond Cauchy-Schwarz",
        "refspec.structure:cell_rows",
        after(larger),
        two_samples,
    ),
    Flaw(
        "C11",
        "products with what is held too large",
        "refspec.grams:WithGram.gram_times",
        after(larger),
        typical,
    ),
    Flaw(
        "C11",
        "reflections back too large",
        "refspec.grams:whole",
        after(larger),
        typical,
    ),
    Flaw(
        "C11",
        "a Gram matrix too large",
        "refspec.factors:Factors.outer",
        after(larger),
        typical,
    ),
    Flaw(
        "C8",
        "rows too large",
        "refspec.differentiated:Differentiated.dot",
        after(larger),
        typical,
    ),
    Flaw(
        "C8",
        "a transpose too small",
        "refspec.differentiated:Differentiated.cross",
        after(smaller),
        typical,
    ),
    *(
        Flaw(
            "C9",
            f"{what} of a shard enlarged",
            f"refspec.shards.joining:{name}",
            after(larger),
            typical,
        )
        for what, name in (("Xv", "_dot"), ("X'z", "_cross"), ("X'Xv", "_second_times"))
    ),
    Flaw(
        "C10",
        "no eigenvalue is zero",
        "refspec.spectra:spectrum",
        after(field("values", lifted)),
        typical,
    ),
    *(
        Flaw("C10", what, RANK, after(change), typical, size=1.0)
        for what, change in (
            ("a rank too large", lambda n, size: n + int(size)),
            ("a rank too small", lambda n, size: n - int(size)),
        )
    ),
)
REASONS: dict[str, str] = {}
