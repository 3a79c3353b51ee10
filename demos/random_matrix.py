"""The whole spectrum of a planted world, predicted without simulating it.

Baik, Ben Arous and Peche; Silverstein and Choi: bands, density and outliers of the
limiting law of a nested design, with the mean shift and standard deviation of a finite
size. One draw lies on the predicted curve.
Theory: theory/random_matrix.md#R1, #R5, #R7.
"""

# %% A world with fixed class means, its prediction, one draw
import numpy as np
from setting import options, save

import refspec
from refspec import plots, random_matrix, synthetic

at = options(__doc__)
d = 100 if at.quick else 600
recipe = synthetic.Recipe(classes=6, dim=d, per_class=d // 5, strength=2.0)
world = recipe.plant()
made = random_matrix.predict(world.population("layer1"))
measured = refspec.spectrum(refspec.curvature.errors(world.snapshot, "layer1"))
values = measured.values
predicted, sd = made.outliers.values, made.outliers.deviations
z = (values[: len(predicted)] - predicted) / sd
for k in range(len(predicted)):
    print(
        f"outlier {k + 1}: predicted {predicted[k]:.4g} +- {sd[k]:.2g}, z {z[k]:+.2f}"
    )

# %% The picture
figure, axes = plots.figure(1, 2)
for ax, scale in zip(axes, ("linear", "log"), strict=True):
    plots.prediction(made, measured, ax, log=scale == "log")
save(figure, "random_matrix", at.plot)

# %% As many eigenvalues above the law as predicted, and where they were predicted
edge = made.bands[-1].upper
above = int(np.sum(values > (edge + predicted.min()) / 2))
print(f"{above} eigenvalues above the law, {len(predicted)} predicted")
assert above == len(predicted)
assert abs(np.sort(z)).mean() <= 4
