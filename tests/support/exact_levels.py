"""Rows of a second moment and of its levels in balls, from the definition by loops.

Independent of refspec: means are weighted averages of vectors, a level's rows are what
the averages are worth. 400 bits, so that features and errors of any size may cancel.
"""

import flint
import numpy as np

from support.balls import frobenius, to_flint

BITS = 400


@flint.ctx.workprec(BITS)
def vectors(snapshot, of, layer=None):
    """Return the vectors x_{i,c'} and their weights, lists over i and c'."""
    N, C = snapshot.probabilities.shape
    s = [flint.arb(float(x)) for x in snapshot.sample_weights]
    if of == "features":
        h = snapshot.layer(layer).features.reshape(N, -1)
        return [[_balls(x)] for x in h], [[x] for x in s]
    w = [[s[i] * p for p in _balls(snapshot.probabilities[i])] for i in range(N)]
    if of == "errors":
        e = snapshot.layer(layer).errors.reshape(N, C, -1)
        return [[_balls(x) for x in row] for row in e], w
    x = [[[] for _ in range(C)] for _ in range(N)]
    for found in snapshot.layers:
        _, T, a = found.features.shape
        for i, h in enumerate(found.features):
            h = flint.arb_mat(T, a, _balls(h))
            for k, e in enumerate(found.errors[i]):
                e = flint.arb_mat(T, e.shape[1], _balls(e))
                x[i][k] += (e.transpose() * h).entries()
    return x, w


def levels(x, w, offsets):
    """Return the rows of the whole and of every level, by name."""
    with flint.ctx.workprec(BITS):
        K, classes = len(w[0]), range(len(offsets) - 1)
        out = {
            "total": [
                _times(a, v)
                for r, s in zip(x, w, strict=True)
                for v, a in zip(r, s, strict=True)
            ]
        }
        cell, within = {}, []
        for c in classes:
            mine = range(*offsets[c : c + 2])
            for k in range(K):
                cell[c, k] = _mean([(w[i][k], x[i][k]) for i in mine])
                gaps = [(w[i][k], _less(x[i][k], cell[c, k][1])) for i in mine]
                within += [_times(a, v) for a, v in gaps]
        if K == 1:
            mass, mean = _mean([cell[c, 0] for c in classes])
            gaps = [(cell[c, 0][0], _less(cell[c, 0][1], mean)) for c in classes]
            between = [_times(a, v) for a, v in gaps]
            means = {"global_mean": [_times(mass, mean)], "between_class": between}
            return out | means | {"within_class": within}
        others = {c: [k for k in range(K) if k != c] for c in classes}
        own = {c: _mean([cell[c, k] for k in others[c]]) for c in classes}
        pairs = [(c, k) for c in classes for k in others[c]]
        gaps = [(cell[c, k][0], _less(cell[c, k][1], own[c][1])) for c, k in pairs]
        return out | {
            "diagonal": [_times(*cell[c, c]) for c in classes],
            "between_class": [_times(*own[c]) for c in classes],
            "between_cross_class": [_times(a, v) for a, v in gaps],
            "within_cross_class": within,
        }


def away(values, rows, radius, scale):
    """Return the largest |value - eigenvalue of rows'rows| over the radius."""
    return ratio(values, spectrum(rows, scale), radius)


@flint.ctx.workprec(BITS)
def spectrum(rows, scale):
    """Return the eigenvalues of rows'rows, descending, over a power of two, and it.

    Those below 2^-500 of `scale`, the trace of the whole, are what balls leave of a
    zero.
    """
    X = flint.arb_mat(len(rows), len(rows[0]), [v for row in rows for v in row])
    wide = X.nrows() <= X.ncols()
    A = X * X.transpose() if wide else X.transpose() * X
    size = A.trace() if A.nrows() else flint.arb(0)
    if not size > scale * flint.arb(2) ** -500:
        return [], flint.arb(1)
    mantissa, power = (int(v) for v in size.mid().man_exp())
    unit = flint.arb(2) ** (power + mantissa.bit_length())
    return _eigenvalues(A / unit), unit


@flint.ctx.workprec(BITS)
def ratio(values, exact, radius):
    """Return the largest |value - eigenvalue| over the radius; exact as above."""
    true, unit = exact
    values = [flint.arb(float(v)) / unit for v in values]
    n, zero = max(len(true), len(values)), flint.arb(0)
    pairs = zip(_padded(values, n, zero), _padded(true, n, zero), strict=True)
    gap = max((abs(v - t).upper() for v, t in pairs), default=zero)
    if radius == 0:
        return 0.0 if gap == 0 else np.inf
    return float((gap / (flint.arb(radius) / unit)).upper())


@flint.ctx.workprec(BITS)
def trace(rows):
    """Return the trace of rows'rows."""
    return sum((v * v for row in rows for v in row), flint.arb(0))


def _eigenvalues(A):
    """Enclose the eigenvalues of a symmetric matrix, descending, to half the bits.

    With sorted D, |lambda_i - D_i| <= ||A Q - Q D||_F / sqrt(1 - ||Q'Q - I||_F) for
    any Q. That of A moved a little has its columns apart where eigenvalues coincide.
    """
    n = A.nrows()
    unit, moved = to_flint(np.eye(n)), np.random.default_rng(0).standard_normal((n, n))
    moved = (A + to_flint(moved + moved.T) * flint.arb(2) ** (-BITS // 2)).mid()
    _, columns = flint.acb_mat(moved).eig(right=True, algorithm="approx")
    columns = [[x.real.mid() for x in row] for row in columns.transpose().tolist()]
    lengths = [sum((x * x for x in column), flint.arb(0)).sqrt() for column in columns]
    pairs = zip(columns, lengths, strict=True)
    Q = flint.arb_mat([[x / size for x in column] for column, size in pairs])
    Q = Q.transpose()
    Q = (Q * (3 * unit - Q.transpose() * Q) / 2).mid()
    B = (Q.transpose() * A * Q).mid().tolist()
    order = sorted(range(n), key=lambda i: B[i][i], reverse=True)
    D = [B[i][i] for i in order]
    Q = flint.arb_mat([[row[i] for i in order] for row in Q.tolist()])
    rows = [[q * d for q, d in zip(row, D, strict=True)] for row in Q.tolist()]
    defect = frobenius(Q.transpose() * Q - unit)
    radius = (frobenius(A * Q - flint.arb_mat(rows)) / (1 - defect).sqrt()).upper()
    assert radius < flint.arb(2) ** (10 - BITS // 2)  # the reference is sharp
    return [flint.arb(d, radius) for d in D]


def _padded(x, n, zero):
    return list(x) + [zero] * (n - len(x))


def _balls(x):
    return [flint.arb(float(v)) for v in np.ravel(x)]


def _times(weight, x):
    return [weight.sqrt() * v for v in x]


def _less(x, y):
    return [a - b for a, b in zip(x, y, strict=True)]


def _mean(pairs):
    """Return the sum of the weights and the weighted average, 0 without weight."""
    mass = sum((w for w, _ in pairs), flint.arb(0))
    width = len(pairs[0][1])
    if not mass > 0:
        return mass, [flint.arb(0)] * width
    sums = [sum((w * x[j] for w, x in pairs), flint.arb(0)) for j in range(width)]
    return mass, [x / mass for x in sums]
