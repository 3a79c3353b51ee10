"""The level split in loops over fractions: exact, and independent of refspec."""

from fractions import Fraction


def outer(x, weight):
    return [[weight * a * b for b in x] for a in x]


def add(A, B):
    return [
        [a + b for a, b in zip(r, s, strict=True)] for r, s in zip(A, B, strict=True)
    ]


def levels(vectors, weights, labels, keep_diagonal_in_means=False):
    """Split sum w v v' of v[i][k] into diagonal, class, cross and within (2020)."""
    C, K, d = max(labels) + 1, len(weights[0]), len(vectors[0][0])
    zero = [[Fraction(0)] * d for _ in range(d)]
    out = dict.fromkeys(
        ("diagonal", "between_class", "between_cross_class", "within_cross_class"), zero
    )
    for c in range(C):
        members = [i for i, label in enumerate(labels) if label == c]
        mass = [sum((weights[i][k] for i in members), Fraction(0)) for k in range(K)]
        mean = [
            [
                sum((weights[i][k] * vectors[i][k][j] for i in members), Fraction(0))
                / (mass[k] or 1)
                for j in range(d)
            ]
            for k in range(K)
        ]
        others = [k for k in range(K) if keep_diagonal_in_means or k != c]
        total = sum((mass[k] for k in others), Fraction(0))
        own = [
            sum((mass[k] * mean[k][j] for k in others), Fraction(0)) / (total or 1)
            for j in range(d)
        ]
        out["between_class"] = add(out["between_class"], outer(own, total))
        out["diagonal"] = add(out["diagonal"], outer(mean[c], mass[c]))
        for k in range(K):
            if k != c:
                gap = [a - b for a, b in zip(mean[k], own, strict=True)]
                cross = outer(gap, mass[k])
                out["between_cross_class"] = add(out["between_cross_class"], cross)
            for i in members:
                gap = [a - b for a, b in zip(vectors[i][k], mean[k], strict=True)]
                within = outer(gap, weights[i][k])
                out["within_cross_class"] = add(out["within_cross_class"], within)
    return out


def second_moment(vectors, weights):
    """Return sum w v v'."""
    d = len(vectors[0][0])
    total = [[Fraction(0)] * d for _ in range(d)]
    for rows, ws in zip(vectors, weights, strict=True):
        for v, w in zip(rows, ws, strict=True):
            total = add(total, outer(v, w))
    return total
