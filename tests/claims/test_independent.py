"""Every number that a claim is judged by, once more: plain NumPy, nothing of refspec.

Of one network, wine_sklearn (C = 3, P = 255, one position): its features, errors and
probabilities are read, gradients written out one by one, matrices formed, LAPACK asked.
The Hessian is a complex-step derivative of a forward and backward pass written here.
"""

import functools

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from refspec import claims, datasets

S = datasets.wine_sklearn()
N, C = S.probabilities.shape
P, Y = S.probabilities, S.labels
W = P / N  # of row (i, c')
NAMES = [x.name for x in S.layers]
FEATURES = [x.features[:, 0] for x in S.layers]
ERRORS = [x.errors[:, :, 0] for x in S.layers]
EVERY = "all layers of the export"
#: Roundings of a sum over all rows of products of two entries, generously.
ROUNDINGS = 2**12 * np.finfo(float).eps


@functools.cache
def numbers(claim):
    (found,) = claims.judge(S, claim)
    return {x.place: list(x.numbers.values()) for x in found.evidence}


def same(found, own, condition=1.0):
    """Whether all numbers are equal up to rounding, enlarged by the condition."""
    assert len(found) == len(own)
    slack = ROUNDINGS * condition
    assert slack < 2.0**-10  # it would see a part in a thousand
    for one, two in zip(found, own, strict=True):
        assert abs(one - two) <= slack * max(1.0, abs(two)), (one, two)


def rows(layers):
    """Gradients (N, C, P) of chosen layers: errors (x) features, row-major."""
    made = [
        np.einsum("icb,ia->icba", ERRORS[k], FEATURES[k]).reshape(N, C, -1)
        for k in layers
    ]
    return np.concatenate(made, axis=2)


def second(weights, vectors):
    flat = vectors.reshape(-1, vectors.shape[-1])
    return (flat * np.reshape(weights, (-1, 1))).T @ flat


def levels(G):
    """The four levels of vectors (N, C, d), by the definitions of the paper."""
    d = G.shape[2]
    diagonal, between, cross, within = (np.zeros((d, d)) for _ in range(4))
    means = []
    for c in range(C):
        mine = c == Y
        mass = W[mine].sum(axis=0)
        cell = np.einsum("ik,ikd->kd", W[mine], G[mine]) / mass[:, None]
        other = np.arange(C) != c
        mean = mass[other] @ cell[other] / mass[other].sum()
        means.append(mean)
        diagonal += mass[c] * np.outer(cell[c], cell[c])
        between += mass[other].sum() * np.outer(mean, mean)
        cross += second(mass[other], cell[other] - mean)
        within += second(W[mine], G[mine] - cell)
    return diagonal, between, cross, within, np.array(means)


def feature_levels(h):
    mean = h.mean(axis=0)
    classes = np.array([h[c == Y].mean(axis=0) for c in range(C)])
    mass = np.bincount(Y) / N
    within = second(np.full(N, 1 / N), h - classes[Y])
    return np.outer(mean, mean), second(mass, classes - mean), within, classes


def spectrum(M):
    values, V = np.linalg.eigh(M)
    return values[::-1], V[:, ::-1]


def sines(A, B):
    return np.sin(scipy.linalg.subspace_angles(A, B))


def gap(M, k):
    """Condition of the top k eigenvectors."""
    values = spectrum(M)[0]
    return values[0] / (values[k - 1] - (values[k] if k < len(values) else 0))


def edged(matrix, no_means, within, means, most):
    """Counts above both edges, and the largest sine to the means' span."""
    values, V = spectrum(matrix)
    rank = int(np.sum(np.linalg.svd(means)[1] > 2.0**-30 * np.linalg.norm(means)))
    class_edge, within_edge = (np.linalg.eigvalsh(x)[-1] for x in (no_means, within))
    for edge in (class_edge, within_edge):  # no value is near an edge
        assert np.abs(values - edge).min() > ROUNDINGS * values[0] * len(values)
    outliers, bump = int(np.sum(values > class_edge)), int(np.sum(values > within_edge))
    basis = np.linalg.svd(means, full_matrices=False)[2][:rank].T
    sine = sines(V[:, :rank], basis).max()
    return outliers, rank, bump, min(most, len(values)), sine


@pytest.mark.parametrize("k", range(3))
def test_F(k):
    h = FEATURES[k]
    overall, between, within, classes = feature_levels(h)
    M = overall + between + within
    low, rank, _, _, sine = edged(M, within, within, classes, C)
    values, V = spectrum(M)
    share = V[:, 0] @ overall @ V[:, 0] / values[0]
    same(
        numbers("F")[f"features of {NAMES[k]}"],
        [low, low, rank, share, sine],
        max(gap(M, 1), gap(M, C)) if low else 1,
    )


def three_groups(vectors):
    diagonal, between, cross, within, means = levels(vectors)
    M = diagonal + between + cross + within
    outliers, rank, bump, cells, sine = edged(
        M, cross + within, within, means, C * (C - 1)
    )
    return [outliers, outliers, rank, bump, bump, cells, sine], gap(M, rank)


@pytest.mark.parametrize("k", range(3))
def test_E(k):
    own, condition = three_groups(ERRORS[k])
    found = numbers("E")[f"errors of {NAMES[k]}"]
    own[5] = found[5]  # nonzero eigenvalues: C(C - 1), or the rank b or C - 1
    assert found[5] == min(
        C * (C - 1), np.linalg.matrix_rank(ERRORS[k].reshape(N * C, -1))
    )
    same(found, own, condition)


PLACES = [(EVERY, [0, 1, 2]), *((f"layer {n}", [k]) for k, n in enumerate(NAMES))]


@pytest.mark.parametrize(("place", "layers"), PLACES, ids=[x for x, _ in PLACES])
def test_G_W_and_D(place, layers):
    vectors = rows(layers)
    own, condition = three_groups(vectors)
    same(numbers("G")[place], own, condition)
    diagonal, between, cross, within, _ = levels(vectors)
    M = diagonal + between + cross + within
    values, V = spectrum(M)
    bump = own[3]
    bulk = V[:, bump:]
    share = np.trace(bulk.T @ within @ bulk) / values[bump:].sum()
    rest, level = values[bump:], spectrum(within)[0]
    least = ROUNDINGS * values[0]
    found = numbers("W")[place]
    same(found[:1], [share], gap(M, bump))
    # which of the smallest are told from zero is a matter of the radius
    step = max(1 / np.sum(rest > least), 1 / np.sum(level > least))
    distance = scipy.stats.ks_2samp(rest[rest > least], level[level > least]).statistic
    assert abs(found[1] - distance) <= 2 * step
    without = spectrum(M - diagonal)[0]
    top = min(C * (C - 1), len(values))
    moved = np.max(1 - without[:top] / values[:top])
    own = [np.trace(diagonal) / np.trace(M), moved]
    same(numbers("D")[place], own, values[0] / values[top - 1])


@pytest.mark.parametrize("k", range(3))
def test_K(k):
    h, e = FEATURES[k], ERRORS[k]
    squares = np.zeros((3, 2))
    for c in range(C):
        mine = c == Y
        w, plain = W[mine], h[mine].mean(axis=0)
        mean_of_class, mean_error, mass_of_class = 0, 0, 0
        for d in set(range(C)) - {c}:
            mass = w[:, d].sum()
            G = np.einsum("i,ib,ia->ba", w[:, d], e[mine, d], h[mine]) / mass
            error, own = w[:, d] @ e[mine, d] / mass, w[:, d] @ h[mine] / mass
            length = mass * np.sum(G**2)
            squares[1] += mass * np.sum((G - np.outer(error, plain)) ** 2), length
            squares[2] += mass * np.sum((G - np.outer(error, own)) ** 2), length
            mean_of_class = mean_of_class + mass * G
            mean_error = mean_error + mass * error
            mass_of_class += mass
        G, error = mean_of_class / mass_of_class, mean_error / mass_of_class
        off = G - np.outer(error, plain)
        squares[0] += mass_of_class * np.sum(off**2), mass_of_class * np.sum(G**2)
    own = np.sqrt(squares[:, 0] / squares[:, 1])
    same(numbers("K")[f"layer {NAMES[k]}"], own, 1 / own.min() ** 2)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def weights():
    given = S.model.parameters
    steps = [x for x in S.model.operations if x["op"] == "linear"]
    return [np.column_stack([given[x["weight"]], given[x["bias"]]]) for x in steps]


def gradient(matrices):
    """Gradient of the mean cross entropy, for matrices that may be complex."""
    h, kept = S.model.inputs, []
    for k, A in enumerate(matrices):
        x = np.column_stack([h, np.ones(N)])
        kept.append(x)
        h = x @ A.T
        h = h if k == len(matrices) - 1 else logistic(h)
    q = np.exp(h)
    delta = q / q.sum(axis=1, keepdims=True) - np.eye(C)[Y]
    found = []
    for k in reversed(range(len(matrices))):
        found.append((delta.T @ kept[k] / N).reshape(-1))
        if k:
            a = kept[k][:, :-1]
            delta = (delta @ matrices[k][:, :-1]) * a * (1 - a)
    return np.concatenate(found[::-1])


def test_H():
    matrices, H = weights(), []
    for k, A in enumerate(matrices):
        for j in np.ndindex(A.shape):
            moved = [x.astype(complex) for x in matrices]
            moved[k][j] += 1e-100j
            H.append(gradient(moved).imag / 1e-100)
    H = np.array(H)
    G = second(W, rows([0, 1, 2]))
    values, V = spectrum(H)
    E = V[:, :C].T @ (H - G) @ V[:, :C]
    share = 1 - np.abs(np.diag(E)) / values[:C]
    shift = np.abs(values - spectrum(G)[0])[:C] / values[:C]
    weyl = np.abs(np.linalg.eigvalsh(H - G)).max() / values[C - 1]
    sine = sines(V[:, :C], spectrum(G)[1][:, :C]).max()
    own = [share.min(), shift.max(), weyl, sine]
    same(numbers("H")[EVERY], own, max(gap(H, C), gap(G, C), gap(H, 1), gap(H, 2)))


@pytest.mark.parametrize("k", range(3))
def test_X_and_U(k):
    h, e = FEATURES[k], ERRORS[k]
    G = rows([k])
    F = second(W, G)
    A, B = second(np.full(N, 1 / N), h), second(W, e)
    kfac = np.kron(B, A)
    Q = np.kron(spectrum(B)[1], spectrum(A)[1])
    ekfac = Q @ np.diag(np.sum(Q * (F @ Q), axis=0)) @ Q.T
    cfac = np.zeros_like(F)
    for c in range(C):
        mine = c == Y
        mass = mine.sum() / N
        one = second(np.full(mine.sum(), 1 / mine.sum()), h[mine])
        cfac += np.kron(second(W[mine], e[mine]) / mass, one) * mass
    values, V = spectrum(F)
    top = min(C * (C - 1), int(np.sum(values > ROUNDINGS * values[0])))
    logs, away, angles, condition = [], [], [], gap(F, C)
    for M in (kfac, ekfac, cfac):
        mine, U = spectrum(M)
        ratio = np.log10(mine[:top] / values[:top])
        logs.append(np.sqrt(np.mean(ratio**2)))
        away.append(np.linalg.norm(M - F) / np.linalg.norm(F))
        angles.append(scipy.linalg.subspace_angles(V[:, :C], U[:, :C]).max())
        condition = max(condition, gap(M, C))
        if M is kfac:
            cosines = np.cos(scipy.linalg.subspace_angles(V[:, :C], U[:, :C]))
    b, a = e.shape[2], h.shape[1]
    # Van Loan and Pitsianis: blocks of F as rows, the nearest products by its SVD
    sigma = np.linalg.svd(
        F.reshape(b, a, b, a).transpose(0, 2, 1, 3).reshape(b * b, a * a)
    )[1]
    best = np.sqrt(np.cumsum(sigma[::-1] ** 2)[::-1][1:]) / np.linalg.norm(sigma)
    *found, last = numbers("X")[f"layer {NAMES[k]}"]
    condition = max(condition, values[0] / values[top - 1])
    same(found, [*logs, *away, *angles, best[0]], condition)
    # a norm of what is left is a root: of rounding, the root of it
    assert abs(last**2 - best[C - 1] ** 2) <= ROUNDINGS
    own = [away[0], np.mean(cosines**2)]
    same(numbers("U")[f"layer {NAMES[k]}"], own, condition)


def trend(values):
    return scipy.stats.spearmanr(range(len(values)), values).statistic


@pytest.mark.parametrize("of", ["features", "errors"])
def test_L(of):
    separation, orthogonal, cosine = [], [], []
    for k in range(3):
        if of == "features":
            overall, between, within, means = feature_levels(FEATURES[k])
            between = between + overall
        else:
            _, between, _, within, means = levels(ERRORS[k])
        values = spectrum(between)[0]
        m = int(np.sum(values > ROUNDINGS * values[0]))
        assert m in (C - 1, C)
        separation.append(values[m - 1] / spectrum(within)[0][0])
        orthogonal.append(-values[1] / values[m - 1])
        mass = np.bincount(Y) / N if of == "features" else None
        if mass is None:
            mass = np.array([W[c == Y][:, np.arange(C) != c].sum() for c in range(C)])
        centred = means - mass @ means / mass.sum()
        unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        cosine.append(-np.mean(np.abs((unit @ unit.T)[np.triu_indices(C, 1)])))
    same(numbers("L")[of], [trend(x) for x in (separation, orthogonal, cosine)])


def test_N():
    h = FEATURES[-1]
    means = np.array([h[c == Y].mean(axis=0) for c in range(C)])
    centred = means - means.mean(axis=0)
    within = second(np.full(N, 1 / N), h - means[Y])
    between = centred.T @ centred / C
    nc1 = np.trace(within @ np.linalg.pinv(between, rcond=2.0**-40)) / C
    sizes = np.linalg.norm(centred, axis=1)
    unit = centred / sizes[:, None]
    angles = np.mean(np.abs((unit @ unit.T)[np.triu_indices(C, 1)] + 1 / (C - 1)))
    A = weights()[-1][:, :-1]
    lined = centred[:, :-1] / np.linalg.norm(centred[:, :-1])
    nearest = ((h[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    own = [
        nc1,
        sizes.std() / sizes.mean(),
        angles,
        np.linalg.norm(A / np.linalg.norm(A) - lined),
        np.mean(nearest == P.argmax(axis=1)),
    ]
    values = spectrum(between)[0]
    same(numbers("N")[f"features of {NAMES[-1]}"], own, values[0] / values[C - 2])


def test_A():
    G = rows([0, 1, 2])
    slope = G[np.arange(N), Y].mean(axis=0)
    F = second(W, G)
    V = spectrum(F)[1]
    inside = (V[:, :C].T @ slope) ** 2 / (slope @ slope)
    own = [inside.sum(), inside[0], np.linalg.norm(slope)]
    # errors near zero of a fitted network: the mean gradient loses what cancels
    condition = np.linalg.norm(G[np.arange(N), Y], axis=1).mean() / own[2]
    same(numbers("A")[EVERY], own, condition * max(gap(F, C), gap(F, 1)))


@pytest.mark.parametrize("k", range(3))
def test_V(k):
    F, h = second(W, rows([k])), FEATURES[k]
    V = spectrum(F)[1][:, :C]
    features = [h[c == Y].mean(axis=0) for c in range(C)]
    errors = levels(ERRORS[k])[4]
    matched = np.array([np.kron(errors[c], features[c]) for c in range(C)])
    every = np.array([np.kron(x, y) for x in errors for y in features])
    own, condition = [], gap(F, C)
    for products in (matched, every):
        unit = products / np.linalg.norm(products, axis=1, keepdims=True)
        _, sigma, basis = np.linalg.svd(unit, full_matrices=False)
        kept = sigma > 2.0**-40
        condition = max(condition, (sigma[0] / sigma[kept].min()) ** 2)
        own.append(np.mean(np.sum((basis[kept] @ V) ** 2, axis=0)))
    same(numbers("V")[f"layer {NAMES[k]}"], own, condition)


def test_effect():
    """A number of another network, or of the same one made wrong, is not the same."""
    right = numbers("K")[f"layer {NAMES[0]}"]
    with pytest.raises(AssertionError):
        same(right, [right[0] * (1 + 2.0**-20), *right[1:]])
    with pytest.raises(AssertionError):
        same(right, right, 1e12)  # a condition under which nothing would be seen
