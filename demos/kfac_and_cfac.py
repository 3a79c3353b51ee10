"""KFAC pairs every class's features with every class's errors; CFAC does not, and fits.

Papyan (2020), Figures 11 and 12: the spectrum of every layer's Fisher information
against KFAC, EKFAC and the class-corrected CFAC, the root mean square error of log10 of
the top C(C-1) eigenvalues and the relative error in Frobenius norm.
Theory: theory/kronecker.md#K5, #K6; theory/kronecker_spectra.md#K13.
"""

# %% A trained network, three approximations a layer
from setting import digits, options, save, trained

from refspec import kronecker, models, plots

at = options(__doc__)
X, y = digits(10 if at.quick else 30)
network = trained([16, 12], X, y, steps=200 if at.quick else 600, activation="tanh")
snapshot = models.snapshot(network, X, y)
found = {x.name: kronecker.compare_layer(snapshot, x.name) for x in snapshot.layers}

# %% The numbers and the spectra
figure, axes = plots.figure(1, len(found))
for ax, (name, result) in zip(axes, found.items(), strict=True):
    plots.approximations(result, ax)
    ax.set_xlabel(f"rank k ({name})")
    for kind, error in result.log10_error.items():
        print(
            f"{name} {kind:5s}: log10 error {error:.3f}, "
            f"Frobenius {result.frobenius_error[kind]:.3f}"
        )
save(figure, "kfac_and_cfac", at.plot)

# %% CFAC is nearer than KFAC at every layer, in both senses
for result in found.values():
    assert result.log10_error["cfac"] < result.log10_error["kfac"]
    assert result.frobenius_error["cfac"] < result.frobenius_error["kfac"]
