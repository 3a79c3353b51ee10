"""Take a level of the means out, and its group of eigenvalues leaves the spectrum.

Papyan (2020), Figure 5: the Fisher's log-spectrum of a trained network, whole and with
each level subtracted. Without the class means the top eigenvalues fall; without the
diagonal c' = c nothing moves; without what is within, the small ones vanish.
Theory: theory/attribution.md#A1, #A2, #A5.
"""

# %% A trained network, its Fisher information in the eigenbasis, every knock-out
from setting import digits, options, save, trained

import refspec
from refspec import curvature, models, plots

at = options(__doc__)
X, y = digits(10 if at.quick else 60)
network = trained([16] if at.quick else [48, 32], X, y, steps=150 if at.quick else 400)
snapshot = models.snapshot(network, X, y)
result = refspec.attribute(curvature.fisher(snapshot))
whole = result.spectrum.values

# %% The panel
axes = plots.knockouts(result)
save(axes[0].figure, "knockouts", at.plot)

# %% What left, and what did not
without = {name: x[0] / whole[0] for name, x in result.knockouts.items()}
for name, ratio in without.items():
    print(f"largest eigenvalue without {name}: {ratio:.3f} of the whole's")
moved = abs(result.knockouts["diagonal"] - whole[: len(result.kinds)]).max()
print(f"without the diagonal nothing moves by more than {moved / whole[0]:.2e}")
top = result.levels["diagonal"][0]
assert moved <= top + 2 * result.radius  # Weyl
assert without["between_class"] == min(without.values())
assert result.upper[0] >= whole[0] >= result.lower[0]
