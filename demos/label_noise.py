"""Label noise lowers the outlier of a fitted classifier over its bulk.

A mixture of classes, and logistic regression fitted to labels of which a share is drawn
anew. The data are the same under clean and noisy labels, so their difference is taken
draw by draw: what the data have in common cancels. One claim, one call.
"""

# %% The claim: a number of one draw
import numpy as np
from setting import options, save

import refspec
from refspec import synthetic

at = options(__doc__)
C, DIM, PER_CLASS = 3, 12, 40


def outlier_over_bulk(noise, rng):
    """Largest eigenvalue of the Fisher over the largest within cross classes."""
    truth = np.repeat(np.arange(C), PER_CLASS)
    inputs = 2.0 * np.eye(C, DIM)[truth] + rng.standard_normal((len(truth), DIM))
    anew = rng.random(len(truth)) < noise
    labels = np.where(anew, rng.integers(0, C, len(truth)), truth)
    weight = synthetic.fit_logistic(inputs, labels, decay=0.01)
    fisher = refspec.fisher(synthetic.observe_logistic(inputs, labels, weight))
    within = refspec.decompose(fisher).levels["within_cross_class"]
    outlier, bulk = (refspec.spectrum(x).values[0] for x in (fisher, within))
    return float(outlier / bulk)


# %% Swept over the share of labels that are drawn anew
shares = [0.0, 0.1, 0.2, 0.4]
found = refspec.sweep(
    outlier_over_bulk, "label noise", shares, draws=6 if at.quick else 40
)
less = found.against(0.0)
print(found)
print("against clean labels, draw by draw:", less)
save(found.plot().axes[0], "label_noise", at.plot)

# %% Noise lowers it, and pairs know it better than two samples of draws would
apart = [found.interval(x) for x in (0.0, 0.4)]
wide = sum((x.upper - x.lower) ** 2 for x in apart) ** 0.5
pairs = less.interval(0.4)
print(f"interval of the difference {pairs.upper - pairs.lower:.3g}, apart {wide:.3g}")
assert pairs.upper < 0
