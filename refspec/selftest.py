"""Check refspec itself: statements on arithmetic, on planted laws and on its own code.

They are true of whatever numbers are put in, so they say nothing about a file of the
user's. They are run on worlds, whose population is known, and on embedded networks: a
failure is a fault of refspec, or of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from refspec import checks, datasets, synthetic
from refspec.classes import Snapshot
from refspec.synthetic.worlds import World
from refspec.theorems import Theorem, asked
from refspec.verify import Records, expect_theorems, verify

#: The least that every statement applies to: smooth activations and piecewise linear
#: ones, float64 and float32, one position and many.
_NETWORKS = ("wine_sklearn", "mnist_cnn")


def selftest(
    *, theorems: Iterable[Theorem] | None = None, deep: bool = False, seed: int = 0
) -> Records:
    """Check theorems on every subject, one after the other.

    Parameters
    ----------
    theorems : iterable of Theorem, optional
        Those on code, `refspec.theorems.asked("code")`, if not given.
    deep : bool
        Also the slow ones, and all embedded networks.
    seed : int
        Of the worlds, at least 0.

    Returns
    -------
    Records
        A sequence of `Record`, each checked when it is first reached: the subjects in
        their order, and the theorems in theirs.

    Raises
    ------
    TypeError, ValueError
        If an argument has another type, or the seed is negative.

    Examples
    --------
    >>> from refspec.theorems import find
    >>> sorted({x.status for x in selftest(theorems=find(["L1", "K2"]))})
    ['holds']
    """
    chosen = asked("code") if theorems is None else expect_theorems(theorems)
    checks.expect_flag("deep", deep)
    found = subjects(deep=deep, seed=seed)
    # what theorems share of a subject is kept while its own are checked, no longer
    of_subject = lru_cache(maxsize=1)(
        lambda name: verify(found[name], theorems=chosen, source=name, deep=deep)
    )
    pairs = [(name, k) for name in found for k in range(len(chosen))]
    return Records(lambda pair: of_subject(pair[0])[pair[1]], pairs)


def subjects(*, deep: bool = False, seed: int = 0) -> dict[str, World | Snapshot]:
    """Plant the worlds and read the networks that refspec is checked on.

    Examples
    --------
    >>> list(subjects())[:3]
    ['canonical world', 'nested world', 'orthogonal world']
    """
    chosen = datasets.names() if deep else _NETWORKS
    networks = {name: getattr(datasets, name)() for name in chosen}
    return {**worlds(seed), **networks}


def worlds(seed: int = 0) -> dict[str, World]:
    """Plant the worlds that statements about laws are checked on by default.

    Examples
    --------
    >>> sorted(worlds())
    ['canonical world', 'nested world', 'orthogonal world']
    """
    rng = np.random.default_rng(checks.expect_size("seed", seed))
    nested = synthetic.Recipe(
        classes=4, dim=24, per_class=30, strength=4.0, cross_strength=2.0, seed=seed
    )
    return {
        "canonical world": synthetic.canonical(
            5, 12, 60, signal=9.0, alpha=0.2, rng=rng
        ),
        "nested world": nested.plant(),
        "orthogonal world": synthetic.worlds.orthogonal(4, 8, 6, 40, rng=rng),
    }
