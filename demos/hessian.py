"""The outliers of a trained network's Hessian are its Fisher's: E has no outliers.

Papyan (2018), Figures 2 to 4: Hessian = Fisher + E, exact, side by side, for the
network that is embedded in refspec. The top eigenvalues of the Hessian come from the
Fisher's class means and move by no more than the norm of E (Weyl).
Theory: theory/hessian.md#H1, #H9.
"""

# %% The embedded network, its exact Hessian and Fisher information
import numpy as np
from setting import options, save

from refspec import curvature, datasets, hessian, plots
from refspec.attribution import attribute_hessian

at = options(__doc__)
snapshot = datasets.digits_mlp()
layers = ["fc2", "fc3"] if at.quick else None
H = hessian.of_snapshot(snapshot, layers)
found = attribute_hessian(H, curvature.fisher(snapshot, layers))
print(f"P = {len(H)}, largest eigenvalue {found.values[0]:.4g}, |E| {found.weyl:.3g}")
print(f"E from {found.residual[-1]:.3g} to {found.residual[0]:.3g}")
print(
    f"largest sine between the top eigenspaces {np.sin(found.angles.max()):.3f}, "
    f"at most {found.angle_bound:.3f}"
)

# %% The picture
figure, axes = plots.figure(1, 2)
plots.hessian(found, axes[0])
plots.hessian_parts(found, axes[1])
save(figure, "hessian", at.plot)

# %% Weyl for every eigenvalue; the first are class means, all of E lies below the tenth
assert abs(found.values - found.fisher).max() <= found.weyl + found.radius
assert np.sin(found.angles.max()) <= found.angle_bound
assert found.kinds[0] == "outlier"
assert found.weyl < found.values[9]
