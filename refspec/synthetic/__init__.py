"""Planted worlds: a Snapshot drawn from a population that is known.

A world in three lines, with what its spectrum is made of in expectation:

>>> from refspec import synthetic
>>> world = synthetic.Recipe(classes=3, dim=40, per_class=10, strength=4.0).plant()
>>> features, errors = synthetic.expected_levels(world, "layer1")
>>> {name: round(float(level.trace()), 2) for name, level in errors.items()}
{'diagonal': 6.67, 'between_class': 12.0, 'between_cross_class': 1.33, \
'within_cross_class': 36.0}

World builders

- `Recipe`, `from_record`: a world in numbers and words, which a file can record;
  `PRESETS`: some by name.
- `planted`: a world from a `refspec.populations.Population` of errors, or a
  `KroneckerPopulation` of gradients, for every layer; see also `worlds`.
- `canonical`: the classification model of the paper's Theorem 8.1; `logistic` has its
  closed forms, `outlier_ratio` among them.
- `fit_logistic`, `observe_logistic`: multinomial logistic regression on any inputs,
  fitted and seen as a Snapshot.

What to plant is in the modules `geometry` (means from Gram matrices, probabilities) and
`covariances`. What a world should show is in closed form: `expected_means`,
`expected_levels`, `expected_fisher`; `World.population` is what `refspec.random_matrix`
predicts spectra from.
"""

from refspec.synthetic.expectations import expected_fisher as expected_fisher
from refspec.synthetic.expectations import expected_levels as expected_levels
from refspec.synthetic.expectations import expected_means as expected_means
from refspec.synthetic.logistic import canonical as canonical
from refspec.synthetic.logistic import outlier_ratio as outlier_ratio
from refspec.synthetic.presets import PRESETS as PRESETS
from refspec.synthetic.recipes import Recipe as Recipe
from refspec.synthetic.recipes import from_record as from_record
from refspec.synthetic.regression import fit_logistic as fit_logistic
from refspec.synthetic.regression import observe_logistic as observe_logistic
from refspec.synthetic.worlds import World as World
from refspec.synthetic.worlds import planted as planted

__all__ = [
    "PRESETS",
    "Recipe",
    "World",
    "canonical",
    "expected_fisher",
    "expected_levels",
    "expected_means",
    "fit_logistic",
    "from_record",
    "observe_logistic",
    "outlier_ratio",
    "planted",
]
