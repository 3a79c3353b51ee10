"""The Hessian's eigenvalues through the Fisher's levels: Hessian = levels + residual E.

The Hessian is the Fisher information G plus E, the part with second derivatives of the
network. An eigenvalue with eigenvector v is v'Hv, the sum of what every level of G and
E contribute, v'G_level v and v'Ev.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from refspec import backend, checks, rounding
from refspec.backend import Array
from refspec.coordinates import primal
from refspec.curvature import SecondMoment
from refspec.implicit import HessianOperator
from refspec.results import Result, View
from refspec.rows import forming_radius
from refspec.spectra import cluster_means, eigenvalues, principal_angles
from refspec.structure import decompose, kinds


@dataclass(frozen=True, slots=True, eq=False)
class HessianAttribution(Result):
    """What the Hessian's spectrum is made of; arrays on the host.

    Parameters
    ----------
    values, fisher, residual : ndarray, shape (P,)
        Eigenvalues, descending, of the Hessian H, of the Fisher information G and of
        E = H - G. With `top` the first 2 k, (2 k,): the largest and the smallest.
    parts : dict of str to ndarray, shape (P,)
        What every level and `residual` contribute to each eigenvalue; they add up to
        it. In a cluster, the cluster's mean.
    kinds : list of str
        `outlier`, `bump`, `bulk` or `residual`: the largest contribution in size.
    weyl : float
        The norm of E: no eigenvalue of H is farther than this from that of G.
    angles : ndarray
        Principal angles, in radians, between the eigenspaces of the C largest
        eigenvalues of H and of G.
    angle_bound : float
        Davis-Kahan: no sine of `angles` exceeds it (inf if it proves nothing).
    radius : float
        Every eigenvalue here is known to this.

    Notes
    -----
    Theory: theory/hessian.md#H9; theory/attribution.md#A3.
    """

    values: np.ndarray
    fisher: np.ndarray
    residual: np.ndarray
    parts: dict[str, np.ndarray]
    kinds: list[str]
    weyl: float
    angles: np.ndarray
    angle_bound: float
    radius: float

    def __repr__(self) -> str:
        """Say how many eigenvalues are of each kind."""
        counts = {k: self.kinds.count(k) for k in dict.fromkeys(self.kinds)}
        made = ", ".join(f"{n} {k}" for k, n in counts.items())
        return f"HessianAttribution(P={len(self.values)}; {made}; weyl={self.weyl:.3g})"

    def view(self) -> View:
        """Give the eigenvalues, with what levels and residual contribute."""
        names = ("values", "fisher", "residual", "kinds")
        columns = {n.removesuffix("s"): getattr(self, n) for n in names}
        columns |= {"part": self.parts}
        facts = {n: getattr(self, n) for n in ("weyl", "angle_bound", "radius")}
        apart = {"angle": ("angles", self.angles)}
        rows = range(1, len(self.values) + 1)
        return View("place", rows, columns, "level", apart, facts)


def attribute_hessian(
    hessian: Array | HessianOperator,
    moment: SecondMoment,
    *,
    top: int | None = None,
    forming: float = 0.0,
) -> HessianAttribution:
    """Attribute every eigenvalue of a Hessian to levels of the Fisher or to E.

    Parameters
    ----------
    hessian : Array, shape (P, P), or HessianOperator
        Symmetric to the bit, e.g. from `refspec.hessian.hessian`; or an operator, which
        knows its own `forming`, and is formed unless `top` is given.
    moment : SecondMoment
        The Fisher information of the same parameters in the same order.
    top : int, optional
        Attribute the `top` largest and as many smallest eigenvalues only, by products.
    forming : float
        How far the given Hessian can be from the exact one, in 2-norm.

    Returns
    -------
    HessianAttribution

    Raises
    ------
    ValueError
        If the shapes do not fit, the moment has no cross classes, or `top` is not in
        1..P/2.

    Notes
    -----
    Theory: theory/hessian.md#H9, #H11; theory/attribution.md#A3. Papyan (2018), section
    3: the outliers come from G, the bulk largely from E. Cost: two eigenproblems with
    vectors and one without, of size P; with `top` of a few `top` products.

    Examples
    --------
    >>> import refspec
    >>> from refspec import hessian, models
    >>> snapshot = refspec.datasets.digits_mlp()
    >>> net = models.from_section(snapshot.model)
    >>> X = snapshot.model.inputs
    >>> H = hessian.hessian(net, X, snapshot.labels, layers=["fc3"])
    >>> G = refspec.curvature.fisher(snapshot, ["fc3"])
    >>> attribute_hessian(H, G).kinds[0]
    'outlier'
    """
    advice = "take refspec.fisher(snapshot, layers) of the Hessian's layers"
    checks.expect_type("moment", moment, SecondMoment, advice)
    P = moment.shape[1]
    forming = checks.expect_positive("forming", forming, zero=True)
    if isinstance(hessian, HessianOperator):
        checks.expect_alike(hessian=hessian.like, moment=moment.rows.like)
        forming += hessian.lost
    else:
        checks.expect_array("hessian", hessian, "(P, P)", symmetric=True)
        checks.expect_alike(hessian=hessian, moment=moment.rows.like)
    if hessian.shape != (P, P) or moment.weights.shape[1] == 1:
        raise ValueError(
            f"hessian must have shape (P, P) = ({P}, {P}) to match a Fisher moment "
            f"with cross classes, got {tuple(hessian.shape)} and K = "
            f"{moment.weights.shape[1]}; take both of the same layers"
        )
    if top is not None:
        return _ends(hessian, moment, top, forming)
    if isinstance(hessian, HessianOperator):
        hessian = hessian.matrix()
    xp, at = moment.xp, primal(moment)
    C, K, _ = at.means.shape
    values, Q = (xp.flip(x, axis=-1) for x in backend.eigh(hessian, xp))
    fisher, F = (xp.flip(x, axis=-1) for x in backend.eigh(at.second, xp))
    E = hessian - at.second
    residual, solver = eigenvalues(E, xp)
    u = rounding.unit_roundoff(hessian)
    norm = backend.scalar(xp.max(xp.abs(values)))
    solver += rounding.eigensolver_radius(P, max(norm, at.trace), u)
    radius = forming + at.radius + solver
    means = xp.reshape(xp.reshape(at.means, (C * K, P)) @ Q, (C, K, P))
    parts = {
        name: backend.to_host(xp.sum(project(means) ** 2, axis=(0, 1)))
        for name, project in decompose(moment).of_cells.items()
    }
    whole = backend.to_host(xp.sum(Q * (at.second @ Q), axis=0))
    host = backend.to_host(values)
    parts["within_cross_class"] = whole - sum(parts.values())
    parts["residual"] = host - whole
    parts = cluster_means(host, radius, parts)
    ends = np.abs(backend.to_host(residual))
    weyl = float(max(ends[0], ends[-1])) + radius
    in_hessian = backend.to_host(xp.matrix_transpose(Q) @ F[:, :C])
    gap = float(fisher[C - 1]) - float(values[C]) if C < P else 0.0
    bound = weyl / (gap - 2 * radius) if gap > 2 * radius else float("inf")
    return HessianAttribution(
        host,
        backend.to_host(fisher),
        backend.to_host(residual),
        parts,
        kinds(parts),
        weyl,
        principal_angles(in_hessian, C),
        bound,
        radius,
    )


def _ends(
    hessian: Array | HessianOperator, moment: SecondMoment, k: int, forming: float
) -> HessianAttribution:
    """Attribute the k largest and the k smallest eigenvalues, by products."""
    xp, rows, P = moment.xp, moment.rows, moment.shape[1]
    product = (
        hessian.product
        if isinstance(hessian, HessianOperator)
        else (lambda V: hessian @ V)
    )
    trace, u = moment.trace(), rounding.unit_roundoff(rows.like)
    lost = forming_radius(rows, trace, u)
    lost += rounding.second_moment_radius(rows.products, trace, u)
    H = HessianOperator(product, rows.like, P, forming)
    G = HessianOperator(moment.matvec, rows.like, P, lost)
    E = HessianOperator(
        lambda V: product(V) - moment.matvec(V), rows.like, P, forming + lost
    )
    h, g, e = (x.ends(k) for x in (H, G, E))
    radius = max(x.radius for x in (h, g, e)) + lost
    image = moment.project(rows.dot(h.vectors))
    parts = {
        name: backend.to_host(xp.sum(level.project(image) ** 2, axis=(0, 1)))
        for name, level in decompose(moment).levels.items()
    }
    parts["residual"] = h.values - sum(parts.values())
    parts = cluster_means(h.values, radius, parts)
    C = min(moment.weights.shape[1], k)
    tops = (backend.to_host(x.vectors)[:, :C] for x in (h, g))
    weyl = float(np.abs(e.values).max()) + radius
    gap = float(g.values[C - 1]) - float(h.values[C]) if k > C else 0.0
    return HessianAttribution(
        h.values,
        g.values,
        e.values,
        parts,
        kinds(parts),
        weyl,
        np.asarray(scipy.linalg.subspace_angles(*tops)[::-1]),
        weyl / (gap - 2 * radius) if gap > 2 * radius else float("inf"),
        radius,
    )
