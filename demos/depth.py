"""Layer by layer class means take over from what is within, in features and errors.

Papyan (2020), Figures 7 to 10, on a real MLP with eight layers: the trace of the
class means' level over the trace within for the features entering each layer and the
errors coming back; and the separation of the extreme eigenvalues, lambda_2 / lambda_C
and the mean cosine of the class means. Without batch normalisation, as here, the means
of the features span fewer directions in the middle of the network: the traces grow from
layer to layer, lambda_C does not.
Theory: theory/levels.md#L1, #L2; theory/attribution.md#A1.
"""

# %% Eight layers, trained far past zero error
from setting import digits, options, save, trained

import refspec
from refspec import curvature, models, plots
from refspec.attribution import depth_profile

at = options(__doc__)
layers, width = (5, 32) if at.quick else (8, 64)
X, y = digits(12 if at.quick else 60)
network = trained(
    [width] * (layers - 1), X, y, steps=400 if at.quick else 1000, learning_rate=1e-3
)
snapshot = models.snapshot(network, X, y)
fitted = (snapshot.probabilities.argmax(1) == snapshot.labels).mean()
print(f"training accuracy {fitted:.3f}")

# %% Traces: how much of the vectors is class means, how much is within
ratios = {}
for of, build in (("features", curvature.features), ("errors", curvature.errors)):
    ratios[of] = []
    for layer in snapshot.layers:
        split = refspec.decompose(build(snapshot, layer.name)).levels
        *_, within = split.values()
        ratios[of].append(split["between_class"].trace() / within.trace())
    print(of, "between-class over within:", [f"{x:.3g}" for x in ratios[of]])

# %% The picture, with three numbers of the eigenvalues beside it
profiles = {of: depth_profile(snapshot, of) for of in ratios}
figure, axes = plots.figure(2, 2)
for ax, name in zip(axes[1:], ("separation", "orthogonality", "cosine"), strict=True):
    plots.depth(profiles, name, ax)
alike = ("color", "marker", "linestyle")  # one a thing, in all four
for line in axes[1].get_lines():
    if (of := line.get_label()) in ratios:
        how = {x: getattr(line, f"get_{x}")() for x in alike}
        axes[0].semilogy(range(1, layers + 1), ratios[of], label=of, **how)
axes[0].set(xlabel="layer", ylabel="trace: between-class / within")
axes[0].set_xticks(range(1, layers + 1))
axes[0].legend(frameon=False)
save(figure, "depth", at.plot)

# %% Both grow from the input to the output
assert fitted == 1.0
for of in ratios:
    assert ratios[of][-1] > ratios[of][0]
