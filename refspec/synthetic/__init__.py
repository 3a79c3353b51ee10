"""Planted worlds: a Snapshot drawn from a population that is known.

A world in three lines, with what its spectrum is made of in expectation:

>>> from refspec import synthetic
>>> world = synthetic.Recipe(classes=3, dim=40, per_class=10, strength=4.0).plant()
>>> features, errors = synthetic.levels(world, "layer1")
>>> {name: round(float(level.trace()), 2) for name, level in errors.items()}
{'diagonal': 6.67, 'between_class': 12.0, 'between_cross_class': 1.33, \
'within_cross_class': 36.0}

World builders

- `Recipe`, `from_record`: a world in numbers and words, which a file can record.
- `planted`: a world from a `refspec.populations.Population` of errors, or a
  `KroneckerPopulation` of gradients, for every layer; `deepened` repeats one.
- `orthogonal`: independent errors and features around orthogonal class means.
- `canonical`: the classification model of the paper's Theorem 8.1; `bayes_error`,
  `outlier_ratio`, `bump_ratio` and `outlier_eigenvectors` are its closed forms.
- `fit_logistic`, `observe_logistic`: multinomial logistic regression on any inputs,
  fitted and seen as a Snapshot.

What to plant

- Means: `simplex_gram`, `orthogonal_gram`, `overlap_gram` or any Gram matrix, turned
  into vectors by `means_of_gram`.
- Covariances: a number, a vector, a matrix; `power_law`, `low_rank_plus_noise`,
  `toeplitz`.
- Probabilities: `confusion` or any confusion matrix, `softmax_outputs`.

What a world should show

- `means`, `levels`, `fisher`, `fisher_groups`: expectations in closed form.
- `World.population`: what `refspec.random_matrix` predicts spectra from.
"""

from refspec.synthetic.covariances import low_rank_plus_noise as low_rank_plus_noise
from refspec.synthetic.covariances import power_law as power_law
from refspec.synthetic.covariances import toeplitz as toeplitz
from refspec.synthetic.expectations import fisher as fisher
from refspec.synthetic.expectations import fisher_groups as fisher_groups
from refspec.synthetic.expectations import levels as levels
from refspec.synthetic.expectations import means as means
from refspec.synthetic.geometry import confusion as confusion
from refspec.synthetic.geometry import means_of_gram as means_of_gram
from refspec.synthetic.geometry import orthogonal_gram as orthogonal_gram
from refspec.synthetic.geometry import overlap_gram as overlap_gram
from refspec.synthetic.geometry import simplex_gram as simplex_gram
from refspec.synthetic.geometry import softmax_outputs as softmax_outputs
from refspec.synthetic.groups import Group as Group
from refspec.synthetic.logistic import bayes_error as bayes_error
from refspec.synthetic.logistic import bump_ratio as bump_ratio
from refspec.synthetic.logistic import canonical as canonical
from refspec.synthetic.logistic import outlier_eigenvectors as outlier_eigenvectors
from refspec.synthetic.logistic import outlier_ratio as outlier_ratio
from refspec.synthetic.recipes import Recipe as Recipe
from refspec.synthetic.recipes import from_record as from_record
from refspec.synthetic.regression import fit_logistic as fit_logistic
from refspec.synthetic.regression import observe_logistic as observe_logistic
from refspec.synthetic.worlds import World as World
from refspec.synthetic.worlds import deepened as deepened
from refspec.synthetic.worlds import orthogonal as orthogonal
from refspec.synthetic.worlds import planted as planted

__all__ = [
    "Group",
    "Recipe",
    "World",
    "bayes_error",
    "bump_ratio",
    "canonical",
    "confusion",
    "deepened",
    "fisher",
    "fisher_groups",
    "fit_logistic",
    "from_record",
    "levels",
    "low_rank_plus_noise",
    "means",
    "means_of_gram",
    "observe_logistic",
    "orthogonal",
    "orthogonal_gram",
    "outlier_eigenvectors",
    "outlier_ratio",
    "overlap_gram",
    "planted",
    "power_law",
    "simplex_gram",
    "softmax_outputs",
    "toeplitz",
]
