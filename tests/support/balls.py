"""Eigenvalues at 200 bits in balls: the reference for radii (python-flint)."""

import itertools

import flint
import mpmath
import numpy as np
import scipy.linalg

BITS = 200


def to_flint(x: np.ndarray) -> flint.arb_mat:
    """Return the same numbers as exact balls."""
    return flint.arb_mat(*x.shape, [float(v) for v in x.ravel()])


def frobenius(M: flint.arb_mat) -> flint.arb:
    """Return an upper bound of the norm."""
    return sum((e * e for e in M.entries()), flint.arb(0)).abs_upper().sqrt().upper()


def eye(n: int) -> list[list[flint.arb]]:
    return [[flint.arb(int(i == j)) for j in range(n)] for i in range(n)]


def rotate_clusters(B, Q, threshold):
    """Diagonalize the blocks of close diagonal entries of B by mpmath, at 200 bits."""
    n = B.nrows()
    diagonal = [B[i, i] for i in range(n)]
    order = sorted(range(n), key=lambda i: float(diagonal[i]))
    groups = [[order[0]]]
    for i, j in itertools.pairwise(order):
        close = diagonal[j] - diagonal[i] <= threshold
        groups[-1].append(j) if close else groups.append([j])
    turn = eye(n)
    for group in groups:
        apart = [abs(B[i, j]) for i in group for j in group if i != j]
        if not apart or max(float(x) for x in apart) <= float(threshold) * 2.0**-100:
            continue
        block = mpmath.matrix(
            [
                [mpmath.ldexp(*map(int, B[i, j].mid().man_exp())) for j in group]
                for i in group
            ]
        )
        _, V = mpmath.eigsy((block + block.T) / 2)
        for a, i in enumerate(group):
            for b, j in enumerate(group):
                turn[i][j] = flint.arb(V[a, b])
    return (Q * flint.arb_mat(turn)).mid()


def midpoints(A: flint.arb_mat) -> np.ndarray:
    """Return a matrix of balls rounded to float64."""
    return np.array([[float(x.mid()) for x in row] for row in A.tolist()])


def enclosures(A: np.ndarray | flint.arb_mat) -> list[flint.arb]:
    """Enclose all eigenvalues of A, descending, to about 200 bits, rigorously.

    Newton's iteration on float64 eigenvectors, clusters by a dense solver; how the
    vectors were found does not matter, the last lines prove the radius: with sorted
    D, |lambda_i - D_i| <= ||A Q - Q D||_F / sqrt(1 - ||Q'Q - I||_F) in balls.
    """
    with flint.ctx.workprec(BITS), mpmath.workprec(BITS):
        exact = A if isinstance(A, flint.arb_mat) else to_flint(A)
        A, n = midpoints(exact), exact.nrows()
        unit = to_flint(np.eye(n))
        size = flint.arb(float(np.max(np.abs(A))) or 1.0)
        threshold, small = size * flint.arb(2) ** -30, 2.0**-110
        Q = to_flint(scipy.linalg.eigh(A)[1])
        for _ in range(9):
            Q = (Q * (3 * unit - Q.transpose() * Q) / 2).mid()
            B = (Q.transpose() * exact * Q).mid()
            turn, rows = eye(n), B.tolist()
            apart = together = 0.0
            for i, j in itertools.permutations(range(n), 2):
                gap = rows[j][j] - rows[i][i]
                if abs(gap) > threshold:
                    turn[i][j] = rows[i][j] / gap
                    apart = max(apart, abs(float(rows[i][j] / size)))
                else:
                    together = max(together, abs(float(rows[i][j] / size)))
            if max(apart, together) <= small:
                break
            if apart <= small:
                Q = rotate_clusters(B, Q, threshold)
            else:
                Q = (Q * flint.arb_mat(turn)).mid()
        order = sorted(range(n), key=lambda i: B[i, i].mid(), reverse=True)
        D = [B[i, i].mid() for i in order]
        columns = [[row[j] for j in order] for row in Q.tolist()]
        Q = flint.arb_mat(columns)
        scaled = [[x * d for x, d in zip(row, D, strict=True)] for row in columns]
        residual = frobenius(exact * Q - flint.arb_mat(scaled))
        defect = frobenius(Q.transpose() * Q - unit)
        radius = (residual / (1 - defect).sqrt()).upper()
        assert radius <= threshold * flint.arb(2) ** -60  # the reference is sharp
        return [flint.arb(d, radius) for d in D]
