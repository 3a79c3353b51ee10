"""Every claim, in the order in which a reader meets them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from refspec import checks
from refspec.claims import curvature, depth, edges, later, products, series
from refspec.claims.registry import (
    FROM_NOTES,
    MOST,
    NEARLY_ALL,
    PAPER,
    Claim,
    Evidence,
    Finding,
    Findings,
    Member,
    Subject,
    together,
    unjudged,
)
from refspec.classes import Snapshot
from refspec.curvature import SecondMoment, expect_fisher

_COUNTS = (
    "the number that the sentence names, certain within the radii; in part from half "
    "of it to twice it, which a picture does not tell apart"
)
_SHARES = (
    f"{NEARLY_ALL:.1f} of what is explained, or a tenth of what is to vanish; in part "
    f"from {MOST:.1f}, the larger part"
)


def _cited(place: str) -> str:
    return f"{PAPER}, {place}; {FROM_NOTES}"


#: By id.
CLAIMS = {
    x.id: x
    for x in (
        Claim(
            "F",
            "Features: outliers from class means",
            "C outliers come from the class means of features, the largest from the "
            "global mean",
            _cited("Figures 7 and 8"),
            "eigenvalues above the within-class edge, of C; share of the global mean "
            "in the largest; largest sine to the span of the class means",
            f"count: {_COUNTS}; share: {_SHARES}",
            edges.features,
        ),
        Claim(
            "E",
            "Errors: outliers and bump",
            "C outliers come from the class means of errors, C(C-2) or C^2 beside the "
            "bulk from cross-class means",
            _cited("Figures 9 and 10"),
            "eigenvalues above the edge without class means and diagonal, of C; above "
            "the within edge, of C(C-1)",
            _COUNTS,
            edges.errors,
        ),
        Claim(
            "G",
            "Gradients and Fisher: outliers, bump, bulk",
            "the same three groups in the Fisher information, of a layer and of all",
            _cited("Figures 1 and 5"),
            "as of errors; which of C(C-2), C(C-1), C^2 the count is nearest to",
            _COUNTS,
            edges.gradients,
            layered=False,
        ),
        Claim(
            "W",
            "The bulk is the within-cross-class covariance",
            "the main bulk is due to the within-cross-class covariance",
            f"{PAPER}, abstract, and Figure 5; {FROM_NOTES}",
            "share of the within level in the trace of what is not above the within "
            "edge; Kolmogorov distance to the level's own spectrum",
            _SHARES,
            edges.bulk,
            layered=False,
        ),
        Claim(
            "D",
            "The diagonal is not seen",
            "the term with c' = c has no visible effect at convergence",
            _cited("Figure 5"),
            "its share of the trace; the largest move of one of the C(C-1) largest "
            "eigenvalues when it is knocked out",
            _SHARES,
            edges.diagonal,
            layered=False,
        ),
        Claim(
            "K",
            "Means of gradients are products of means",
            "Kronecker products of means of errors and features approximate the means "
            "of gradients",
            _cited("section 7"),
            "relative error by class and by cell; the covariance beside it",
            _SHARES,
            products.kronecker_means,
        ),
        Claim(
            "H",
            "Outliers of the Hessian come from the Fisher",
            "the outliers of the Hessian are those of the Fisher information",
            _cited("Figures 3 and 4"),
            "least share of the Fisher in a top C eigenvalue; sine between the top C "
            "eigenspaces; shift; ||E|| over the C-th eigenvalue",
            _SHARES,
            curvature.hessian_outliers,
        ),
        Claim(
            "X",
            "CFAC is nearer than KFAC",
            "a correction of KFAC by class approximates the Fisher of a layer better",
            f"{PAPER}, abstract, and Figures 11 and 12; {FROM_NOTES}",
            "log10 error, Frobenius error, largest angle of the top C eigenspaces, "
            "against KFAC and EKFAC; beside them the Frobenius error of the nearest "
            "Kronecker product and of the nearest sum of C",
            "all of six comparisons, of those that rounding leaves; in part from half",
            curvature.approximations,
        ),
        Claim(
            "L",
            "Depth separates and orthogonalises",
            "with depth a network separates class means from variability, and makes "
            "them orthogonal; in errors towards the output",
            f"{PAPER}, abstract, and Figures 7 to 10; {FROM_NOTES}",
            "rank correlations with depth of lambda_C/lambda_1 within, "
            "-lambda_2/lambda_C, -mean |cos|",
            f"{NEARLY_ALL:.1f}; in part from {MOST:.1f}: the same as for shares",
            depth.depth,
        ),
        Claim(
            "T",
            "Epochs separate, samples merge",
            "more epochs separate the cross-class bulk from the within bulk, more "
            "samples merge them",
            _cited("Figure 6"),
            "rank correlation, with epochs and with -N, of the median of the "
            "cross-class level's C(C-2) eigenvalues over the largest of the within "
            "level; three networks at least, alike in all else",
            f"{NEARLY_ALL:.1f}; in part from {MOST:.1f}: the same as for shares",
            None,
            compare=series.epochs_and_samples,
            needs="exports of one network at three or more epochs or sample sizes",
        ),
        Claim(
            "M",
            "Outlier over bulk predicts errors",
            "the ratio of outliers to bulk predicts misclassification",
            f"{PAPER}, abstract, Theorem 8.1; {FROM_NOTES}",
            "rank correlation of the test error with the mean of the C largest "
            "eigenvalues over the largest of the within level, with its bootstrap "
            "interval over networks; over label noise, and over epochs; three at least",
            f"-{NEARLY_ALL:.1f}; in part from -{MOST:.1f}: the same as for shares",
            None,
            compare=series.misclassification,
            needs="three or more networks with several rates of error",
        ),
        Claim(
            "P",
            "Weights come from class means",
            "under weight decay the top C singular values of the weights come from "
            "class means",
            _cited("Figure 13"),
            "distance of W from its stationary value; share of the class part in the "
            "top C singular values",
            _SHARES,
            depth.from_class_means,
        ),
        Claim(
            "B",
            "Batch norm suppresses outliers",
            "batch norm suppresses outliers by taking the global mean away",
            _cited("section 9.3"),
            "the largest eigenvalue over the largest of the within level, with batch "
            "norm, without, and with the mean put back; the part of its fall, in "
            "logarithms, that the mean undoes",
            f"it falls with batch norm, and the mean undoes {NEARLY_ALL:.1f} of that; "
            f"in part from {MOST:.1f}, or if it falls and the mean was not put back",
            None,
            compare=series.batch_norm,
            needs="the same network with and without batch norm",
        ),
        Claim(
            "N",
            "Neural collapse",
            "variability within classes vanishes, class means become a simplex, "
            "weights align with them, the nearest class mean decides",
            "Papyan, Han and Donoho (2020), PNAS 117(40)",
            "NC1 to NC4 of what enters the last layer",
            _SHARES,
            depth.collapsed,
        ),
        Claim(
            "A",
            "Gradients lie in the outliers' space",
            "the gradient of the loss lies in the top eigenspace, of C dimensions",
            "Gur-Ari, Roberts and Dyer (2018), arXiv 1812.04754, of the Hessian; Ben "
            "Arous, Gheissari, Huang and Jagannath (2023), arXiv 2310.03010",
            "part of the squared gradient in the top C eigenspace of the Fisher "
            "information; the part along the first eigenvector",
            _SHARES,
            later.gradients_align,
            layered=False,
        ),
        Claim(
            "V",
            "Eigenvectors are products of means",
            "the top C eigenvectors of a layer are products of a class's mean of "
            "errors and its mean of features",
            "Garrod and Keating (2024), arXiv 2404.06106, of deep linear networks",
            "mean part of the top C eigenvectors in the span of C products of means, "
            "and of all C^2",
            _SHARES,
            later.eigenvectors_are_products,
        ),
        Claim(
            "U",
            "Outputs and features decouple",
            "a layer's matrix is nearly the product of the mean Hessian of its outputs "
            "and the second moment of its features",
            "Wu, Zhu, Wu, Wang and Ge (2020), arXiv 2010.04261",
            "relative Frobenius error of the product; mean squared cosine between the "
            "top C eigenspaces",
            _SHARES,
            later.outputs_decouple,
        ),
    )
}


def judge(
    network: Snapshot | SecondMoment | Subject,
    claims: Iterable[str] | None = None,
    *,
    dense: int = 1000,
    per_layer: bool = True,
    whole: int | None = None,
    top: int | None = None,
) -> Findings:
    """Hold a network against what is claimed about networks.

    Parameters
    ----------
    network : Snapshot, SecondMoment or Subject
        A moment is the Fisher information of a network whose layers are not known,
        such as `refspec.torch.moment` gives. A subject keeps what several
        claims ask for, and its own `dense` and `per_layer`.
    claims : iterable of str, optional
        Letters; all of `CLAIMS` if not given.
    dense : int
        The most parameters of a matrix that is formed: for the Hessian and the
        approximations of the Fisher.
    per_layer : bool
        The Fisher information of every layer too, not only of all together.
    whole : int, optional
        The most eigenvalues that are all computed; of others the C^2 largest.
    top : int, optional
        Only so many eigenvalues of every moment, the largest, from products alone; C^2
        at least, which claims count.

    Returns
    -------
    Findings
        A sequence of `Finding` in the order of the claims, each judged when it is first
        reached; a notebook shows it as a table.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Examples
    --------
    >>> import refspec
    >>> [x.verdict for x in judge(refspec.datasets.wine_sklearn(), "D")]
    ['holds']
    """
    subject = expect_subject(network, dense, per_layer, whole, top)
    chosen = list(CLAIMS) if claims is None else list(claims)
    checks.expect_names("claims", chosen, list(CLAIMS))
    return Findings(lambda id: _judged(CLAIMS[id], subject), chosen)


def expect_subject(
    network: Snapshot | SecondMoment | Subject,
    dense: int,
    per_layer: bool,
    whole: int | None,
    top: int | None,
) -> Subject:
    """Refuse what cannot be judged; return what keeps what claims ask of it."""
    advice = "refspec.snapshot(...) or refspec.load(...) makes one"
    kinds = (Snapshot, SecondMoment, Subject)
    checks.expect_type("network", network, kinds, advice)
    given = network.network if isinstance(network, Subject) else network
    if isinstance(given, SecondMoment):
        expect_fisher("network", given)
    checks.expect_size("dense", dense)
    checks.expect_flag("per_layer", per_layer)
    if whole is not None:
        checks.expect_size("whole", whole)
    if top is not None:
        checks.expect_size("top", top, least=1)
    if isinstance(network, Subject):
        return network
    return Subject(network, dense, per_layer, whole, top)


def compare(members: Iterable[Member], claims: Iterable[str] | None = None) -> Findings:
    """Judge the claims that need several networks, one after the other.

    Parameters
    ----------
    members : iterable of Member
        ``refspec.claims.member(snapshot)`` of each.
    claims : iterable of str, optional
        Letters, of T, M and B; all three by default.

    Returns
    -------
    Findings
        As of `judge`. A series is what is alike in all but one respect (epochs,
        samples, label noise or batch norm), by provenance.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Examples
    --------
    >>> import refspec
    >>> one = refspec.claims.member(refspec.datasets.wine_sklearn())
    >>> [x.verdict for x in compare([one], "T")]
    ['cannot be judged']
    """
    given = list(members)
    for x in given:
        advice = "refspec.claims.member(snapshot) makes one"
        checks.expect_type("each of members", x, Member, advice)
    several = [x.id for x in CLAIMS.values() if x.compare is not None]
    chosen = several if claims is None else list(claims)
    checks.expect_names("claims", chosen, several)
    return Findings(lambda id: _compared(CLAIMS[id], given), chosen)


def _compared(claim: Claim, members: Sequence[Member]) -> Finding:
    """Judge one claim of several networks."""
    assert claim.compare is not None
    start = time.perf_counter()
    evidence = tuple(claim.compare(members))
    if not evidence:
        evidence = (unjudged(f"{len(members)} networks", f"needs {claim.needs}"),)
    verdict = together(x.verdict for x in evidence)
    return Finding(claim, verdict, evidence, time.perf_counter() - start)


def _judged(claim: Claim, subject: Subject) -> Finding:
    """Judge one claim."""
    start = time.perf_counter()
    if claim.judge is None:
        evidence: tuple[Evidence, ...] = (
            unjudged("one network", f"needs {claim.needs}"),
        )
    elif claim.layered and isinstance(subject.network, SecondMoment):
        text = "needs features and errors, layer by layer: an export"
        evidence = (unjudged("the Fisher information", text),)
    else:
        evidence = tuple(claim.judge(subject))
    verdict = together(x.verdict for x in evidence)
    return Finding(claim, verdict, evidence, time.perf_counter() - start)
