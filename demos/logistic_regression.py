"""The better a classifier, the farther its outliers stand from the bulk: Theorem 8.1.

Papyan (2020), section 8: in the canonical model of logistic regression the outliers
over the bulk are a function of the signal and of the predicted misclassification; it
falls with misclassification. Measured on drawn worlds, the theorem's line over them.
Theory: theory/logistic.md#W11, #W12, #W14.
"""

# %% Worlds of several misclassifications, their exact spectra
import numpy as np
from setting import options, save

import refspec
from refspec import plots, synthetic

at = options(__doc__)
C, D, signal = (4, 6, 30.0) if at.quick else (5, 10, 60.0)
n = 400 if at.quick else 4000
alphas = np.linspace(0.05, (C - 1) / C, 5 if at.quick else 9)
measured = []
for k, alpha in enumerate(alphas):
    rng = np.random.default_rng(k)
    world = synthetic.canonical(C, D, n, signal=signal, alpha=alpha, rng=rng)
    moment = refspec.curvature.fisher(world.snapshot)
    values = refspec.spectrum(moment).values
    bulk = values[C * (C - 1) : D * (C - 1)]
    measured.append(values[:C].mean() / bulk.mean())
measured = np.array(measured)

# %% The theorem's line
line = np.linspace(alphas[0], alphas[-1], 200)
theory = np.array([synthetic.outlier_ratio(C, signal, a) for a in line])
at_points = np.array([synthetic.outlier_ratio(C, signal, a) for a in alphas])
for alpha, one, two in zip(alphas, measured, at_points, strict=True):
    print(f"misclassification {alpha:.3f}: measured {one:.2f}, theorem {two:.2f}")
figure, (ax,) = plots.figure(1, 1)
ax.plot(line, theory, color=plots.COLOURS["total"], label="Theorem 8.1")
ax.plot(alphas, measured, "^", color=plots.COLOURS["outlier"], label="drawn worlds")
ax.set(xlabel="predicted misclassification", ylabel="outliers / bulk")
ax.legend(frameon=False)
save(figure, "logistic_regression", at.plot)

# %% Monotone, and on the line: 1/sqrt(n) is what n samples a class can resolve
assert (np.diff(measured) < 0).all()
assert (abs(measured / at_points - 1) <= 8 * np.sqrt(C / n)).all()
