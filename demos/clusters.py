"""Over the epochs cross-class means gather around their class means.

Papyan (2019), Figures 3 to 5: the error means (c, c') of the second to last layer, in
the plane of classical scaling. First they lie by would-be class c', then by class c.
Theory: theory/levels.md#L1, #L4.
"""

# %% Train, and look at the cross-class means of the gradients along the way
import numpy as np
from setting import digits, options, save, trained

from refspec import curvature, models, plots
from refspec.attribution import class_means, distances

at = options(__doc__)
X, y = digits(15 if at.quick else 60)
steps = (2, 150) if at.quick else (2, 30, 600)
network, done, scatter = None, 0, []
figure, axes = plots.figure(1, len(steps))
for ax, step in zip(axes, steps, strict=True):
    network = trained([32, 32], X, y, steps=step - done, start=network)
    done = step
    snapshot = models.snapshot(network, X, y)
    means = class_means(curvature.errors(snapshot, "linear2"))
    matrix, points = distances(means, [0, 1, 2, 3])
    plots.means_map(matrix, points, ax)
    ax.set_xlabel(f"{step} steps; {ax.get_xlabel()}")
    # spread of the off-diagonal cross-class means: around class c, around cross class k
    off = ~np.eye(10, dtype=bool)
    unit = means.cells / np.linalg.norm(means.cells, axis=2, keepdims=True)
    by_class = [unit[c][off[c]].std(axis=0).sum() for c in range(10)]
    by_cross = [unit[:, k][off[:, k]].std(axis=0).sum() for k in range(10)]
    scatter.append(np.mean(by_class) / np.mean(by_cross))
    print(f"{step} steps: spread by class over spread by cross class {scatter[-1]:.3f}")
save(figure, "clusters", at.plot)

# %% Training turns the order from would-be classes to classes
assert scatter[-1] < scatter[0]
