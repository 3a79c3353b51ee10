"""The mean of gradients nears the Kronecker product of means like n^(-1/2).

KFAC's independence of features and errors, given class and cross class, holds in a
planted world. From n samples a class it is seen with an error, whose rate is the slope
of a line through logarithms, with an interval from the same draws.
"""

# %% The claim: how far the mean of products is from the product of means
import numpy as np
from setting import options, save

import refspec
from refspec import synthetic
from refspec.populations import KroneckerPopulation, Population

at = options(__doc__)
C, B, A = 3, 6, 8


def error_of_kronecker_means(n, rng):
    """Distance over all (c, c'): root mean square over entries, means of n samples."""
    sizes, weights = (n,) * C, np.full((n * C, C), 1 / C)
    errors = Population(sizes, B, weights, 1.0, class_means=2 * np.eye(C, B))
    features = Population(sizes, A, weights[:, :1], 1.0, class_means=2 * np.eye(C, A))
    world = synthetic.planted({"fc": KroneckerPopulation(errors, features)}, rng=rng)
    layer = world.snapshot.layers[0]
    delta = layer.errors.reshape(C, n, C, B)
    h = layer.features.reshape(C, n, A)
    together = np.einsum("cikb,cia->ckba", delta, h) / n
    apart = np.einsum("ckb,ca->ckba", delta.mean(axis=1), h.mean(axis=1))
    # both means are of the same samples, which takes a share 1 / n of the variance
    kept = 1 - 1 / n
    return float(np.sqrt(np.mean((together - apart) ** 2) / kept))


# %% Swept over the samples of a class
sizes = [10, 20, 40, 80] if at.quick else [10, 20, 40, 80, 160, 320, 640]
found = refspec.sweep(error_of_kronecker_means, "samples a class", sizes, draws=20)
print(found)
rate = found.rate()
print(f"slope {rate}")
save(found.plot().axes[0], "kronecker_rate", at.plot)

# %% The slope is -1/2
wide = found.rate(confidence=0.9999)
assert -0.5 in wide
