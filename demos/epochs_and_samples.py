"""Past the first fit, epochs pull cross-class and within apart; more data, together.

Papyan (2020), Figure 6: the same network at several numbers of training steps and
samples; the trace of the between-cross-class level of its Fisher information over that
of what is within.
Theory: theory/levels.md#L1, #L2.
"""

# %% Train on n samples a class, look at the levels along the way
import numpy as np
from setting import digits, options, save, trained

import refspec
from refspec import curvature, models, plots

at = options(__doc__)
sizes = (6, 18) if at.quick else (10, 30, 100)
steps = (100, 300) if at.quick else (100, 300, 1000, 3000)
ratios = np.zeros((len(sizes), len(steps)))
for i, n in enumerate(sizes):
    X, y = digits(n)
    network, done = None, 0
    for j, step in enumerate(steps):
        network = trained([32], X, y, steps=step - done, start=network)
        done = step
        split = refspec.decompose(curvature.fisher(models.snapshot(network, X, y)))
        traces = {name: level.trace() for name, level in split.levels.items()}
        ratios[i, j] = traces["between_cross_class"] / traces["within_cross_class"]
print("trace of cross-class over within, rows: samples a class, columns: steps")
print(np.array2string(ratios, precision=3))

# %% The picture
figure, (ax,) = plots.figure(1, 1)
for n, row in zip(sizes, ratios, strict=True):
    ax.plot(steps, row, "o-", label=f"{n} samples a class")
ax.set(xscale="log", yscale="log", xlabel="steps of Adam")
ax.set_ylabel("trace: between-cross-class / within")
ax.legend(frameon=False)
save(figure, "epochs_and_samples", at.plot)

# %% Training separates; at the end more data have a smaller ratio
assert (ratios[:, -1] > ratios[:, 0]).all()
assert (np.diff(ratios[:, -1]) < 0).all()
