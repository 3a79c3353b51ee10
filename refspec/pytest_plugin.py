"""Fixtures and an option for the test suites of other libraries; inert unless used.

* ``refspec_networks``: the small, really trained networks of `refspec.datasets`;
* ``refspec_world``: a planted world whose population is known;
* ``--refspec-deep``: Hypothesis with 5000 examples a test and no deadline.

pytest imports this module whenever refspec is installed, so it imports nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from refspec.classes import Snapshot
    from refspec.synthetic import World

#: Examples of a test under ``--refspec-deep``.
DEEP = 5000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--refspec-deep``."""
    parser.getgroup("refspec").addoption(
        "--refspec-deep",
        action="store_true",
        help=f"Hypothesis: {DEEP} examples a test, no deadline (no test is deselected)",
    )


@pytest.hookimpl(trylast=True)  # after the profile that a conftest or Hypothesis loads
def pytest_configure(config: pytest.Config) -> None:
    """Load the deep profile if asked for."""
    if not config.getoption("--refspec-deep"):
        return
    from hypothesis import settings

    settings.register_profile(
        "refspec-deep", settings.default, max_examples=DEEP, deadline=None
    )
    settings.load_profile("refspec-deep")


@pytest.fixture(scope="session")
def refspec_networks() -> Mapping[str, Snapshot]:
    """Return snapshots of real networks by name, those that come with refspec."""
    from refspec import datasets

    return {name: getattr(datasets, name)() for name in datasets.names()}


@pytest.fixture(scope="session")
def refspec_world() -> World:
    """Return a planted world: 3 unequal classes, errors that obey the score identity.

    One layer, 4 outputs and 5 inputs, with class and cross-class means, from seed 0;
    `expected_levels` and `expected_fisher` of `refspec.synthetic` give what to expect.
    """
    import numpy as np

    from refspec.populations import KroneckerPopulation, Population
    from refspec.synthetic import planted
    from refspec.synthetic.geometry import confusion, means_of_gram, simplex_gram

    sizes, rng = (20, 30, 40), np.random.default_rng(0)
    errors = Population(
        sizes,
        4,
        np.ones((90, 3)),
        0.1,
        class_means=means_of_gram(simplex_gram(3, 3.0), 4, rng=rng),
        cross_covariance=0.5,
        score_consistent=True,
    )
    features = Population(
        sizes,
        5,
        np.ones((90, 1)),
        0.2,
        global_mean=np.ones(5),
        class_means=means_of_gram(simplex_gram(3, 2.0), 5, rng=rng),
    )
    population = {"layer": KroneckerPopulation(errors, features)}
    return planted(population, rng=rng, probabilities=confusion(3, 0.1))
