"""C outliers, a bump of C(C-2) eigenvalues and a bulk: planted, and in a real network.

Papyan (2020), Figure 1. In a planted world every level has its own scale, and the three
groups have exactly the sizes of their ranks. A trained network shows the same three in
the same order; its levels interleave, so every eigenvalue carries shares.
Theory: theory/levels.md#L3; theory/attribution.md#A1, #A2.
"""

# %% A world: class means, random cross-class means, noise within
import numpy as np
from setting import options, save

import refspec
from refspec import plots, synthetic

at = options(__doc__)
C, d = (5, 120) if at.quick else (10, 400)
recipe = synthetic.Recipe(
    classes=C,
    dim=d,
    per_class=20,
    means="orthogonal",
    strength=100.0,
    cross_strength=25.0,
    misclassification=1.0,  # the diagonal c' = c has no weight, as in a fitted network
)
errors = refspec.curvature.errors(recipe.plant().snapshot, "layer1")
planted = refspec.attribute(errors)
counts = {kind: planted.kinds.count(kind) for kind in ("outlier", "bump", "bulk")}
print("planted:", counts)

# %% A network really trained, embedded in refspec
real = refspec.attribute(refspec.curvature.fisher(refspec.datasets.digits_mlp()))
print("digits:", {kind: real.kinds.count(kind) for kind in counts})

# %% Both spectra, every bar split into the levels' shares
figure, axes = plots.figure(1, 2)
plots.spectrum(planted, axes[0])
plots.spectrum(real, axes[1])
axes[0].set_xlabel("eigenvalue (planted errors)")
axes[1].set_xlabel("eigenvalue (Fisher, MLP on digits)")
save(figure, "pattern", at.plot)

# %% The sizes are the ranks; in the network the class level makes the top
top = int(np.sum(np.asarray(real.kinds[:C]) == "outlier"))
print(f"of the network's top {C} eigenvalues {top} are class means first of all")
assert counts["outlier"] == C
assert counts["bump"] == C * (C - 2)
assert planted.proved[: C * (C - 1)].all()
assert real.kinds[0] == "outlier"
