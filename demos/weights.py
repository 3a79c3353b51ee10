"""Under weight decay a weight lies in the span of class means, of rank at most C.

Papyan (2020), Figure 13. At a stationary point of `loss + decay |W|^2 / 2` every weight
is W = -1/decay sum_i s_i delta_i h_i'. Its class part, made of the class means of
errors and features, has rank at most C; the top C singular values of W stand on its
span.
Theory: theory/weights.md#D1, #D2.
"""

# %% A network trained to a stationary point with weight decay
import itertools

import numpy as np
from setting import digits, options, save, trained

from refspec import models, plots
from refspec.models import training

at = options(__doc__)
decay = 1e-2
X, y = digits(10 if at.quick else 60)
hidden = [24] if at.quick else [48, 48]
start = trained(hidden, X, y, steps=100, activation="tanh", weight_decay=decay)
steps = 300 if at.quick else 1500
network = training.fit(start, X, y, weight_decay=decay, steps=steps)
_, gradient = models.loss_and_gradient(network, X, y)
rest = np.linalg.norm(gradient + decay * models.flatten(network))
print(f"gradient left: {rest:.1e}")

# %% The class part of every weight, from class means of errors and features
snapshot = models.snapshot(network, X, y)
s, C = snapshot.sample_weights, 10
figure, axes = plots.figure(1, len(snapshot.layers))
gaps, captured = [], []
for ax, layer in zip(axes, snapshot.layers, strict=True):
    h = layer.features[:, 0]
    own = layer.errors[np.arange(len(h)), snapshot.labels, 0]
    W = network.parameters[f"{layer.name}.weight"]
    W = np.column_stack([W, network.parameters[f"{layer.name}.bias"]])
    means = np.zeros_like(W)
    for i, j in itertools.pairwise(snapshot.offsets):
        pair = s[i:j] @ own[i:j], s[i:j] @ h[i:j]
        means -= np.outer(*pair) / s[i:j].sum() / decay
    gaps.append(np.linalg.norm(W + (own * s[:, None]).T @ h / decay))
    U, parts, V = np.linalg.svd(means)
    inside = V[:C] @ W.T  # what of W meets the features' side of the span
    captured.append(np.linalg.norm(inside) ** 2 / np.linalg.norm(W) ** 2)
    print(
        f"{layer.name}: {captured[-1]:.3f} of |W|^2 on the class means' span, "
        f"{C / W.shape[1]:.3f} by chance"
    )
    values = np.linalg.svd(W, compute_uv=False)
    k = np.arange(1, len(values) + 1)
    ax.semilogy(k, values, "o", color=plots.COLOURS["total"], mfc="none", label="W")
    style = {"color": plots.COLOURS["outlier"], "label": "class part"}
    ax.plot(k[:C], parts[:C], "^", **style)
    ax.set(xlabel="rank", ylabel="singular value", title=layer.name)
    ax.set_ylim(bottom=values[0] / 1e4)
    ax.legend(frameon=False)
    assert captured[-1] > C / W.shape[1]
save(figure, "weights", at.plot)

# %% W is its gradient formula, but for the gradient that is left and rounding
rounding = len(h) * np.finfo(float).eps * np.linalg.norm(gradient)
assert np.hypot.reduce(gaps) <= (rest + rounding) / decay
