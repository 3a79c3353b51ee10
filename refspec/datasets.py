"""Exports of really trained networks that come with refspec.

Each was made by the script of its name in ``tests/networks`` and is an ordinary export
file, with its network as model section; together they are under 3 MB.
"""

from __future__ import annotations

from importlib import resources

from refspec.backend import Namespace
from refspec.classes import Snapshot
from refspec.export import load

_NAMES = (
    "digits_decay",
    "digits_jax",
    "digits_mlp",
    "iris_decay",
    "magika",
    "mnist_cnn",
    "wine_sklearn",
)


def names() -> tuple[str, ...]:
    """Return the names of the networks, each a function of this module.

    Examples
    --------
    >>> names()
    ('digits_decay', 'digits_jax', 'digits_mlp', 'iris_decay', 'magika', 'mnist_cnn', \
'wine_sklearn')
    """
    return _NAMES


def digits_mlp(*, xp: Namespace | None = None) -> Snapshot:
    """Return a PyTorch network fitted to scikit-learn's digits.

    N = 400 samples of C = 10 unequal classes (31 to 49), three layers of sizes
    64-32-16-10 (relu), float32 numbers read into float64. Trained on all 1797 digits to
    100 % training accuracy, far past zero error, by ``tests/networks/digits_mlp.py``.

    Examples
    --------
    >>> snapshot = digits_mlp()
    >>> snapshot.probabilities.shape, [x.parameters for x in snapshot.layers]
    ((400, 10), [2080, 528, 170])
    """
    return _load("digits_mlp", xp)


def digits_jax(*, xp: Namespace | None = None) -> Snapshot:
    """Return a JAX network fitted to scikit-learn's digits.

    N = 200 samples of C = 10 unequal classes (11 to 29), three layers of sizes
    64-24-16-10 (tanh), float32 numbers read into float64. Trained on all 1797 digits
    with weight decay to 100 % training accuracy by ``tests/networks/digits_jax.py``.
    """
    return _load("digits_jax", xp)


def digits_decay(*, xp: Namespace | None = None) -> Snapshot:
    """Return a PyTorch network at a minimum on 1000 digits, with weight decay.

    N = 1000 samples of C = 10 unequal classes, two layers of sizes 64-12-10 (tanh),
    float64: the first 1000 of scikit-learn's digits, all read right, and 94 % of the
    others; gradient norm 5e-17. Features and errors are computed when it is read. Made
    by ``tests/networks/digits_decay.py``.

    Examples
    --------
    >>> snapshot = digits_decay()
    >>> snapshot.probabilities.shape, [x.parameters for x in snapshot.layers]
    ((1000, 10), [780, 130])
    """
    return _load("digits_decay", xp)


def iris_decay(*, xp: Namespace | None = None) -> Snapshot:
    """Return a PyTorch network at a minimum of its loss with weight decay.

    All N = 150 irises of scikit-learn, C = 3 classes of 50, three layers of sizes
    4-8-6-3 (tanh), float64. Trained by Newton steps by ``tests/networks/iris_decay.py``
    until the gradient is rounding; its provenance states weight decay, gradient and
    mean loss, as theory/weights.md#D1, #D3 ask. Training accuracy 98.7 %.
    """
    return _load("iris_decay", xp)


def mnist_cnn(*, xp: Namespace | None = None) -> Snapshot:
    """Return a PyTorch CNN fitted to MNIST, unequal classes.

    N = 65 samples of C = 10 unequal classes (2 to 11), two convolutions with T = 36 and
    16 positions and a linear layer (relu), float32 numbers read into float64. Trained
    on 3200 images, 500 to 140 a class, to 100 % training accuracy by
    ``tests/networks/mnist_cnn.py``, which with ``--full`` exports them all.
    """
    return _load("mnist_cnn", xp)


def wine_sklearn(*, xp: Namespace | None = None) -> Snapshot:
    """Return scikit-learn's MLPClassifier fitted to its wines.

    All N = 178 samples of C = 3 classes (59, 71, 48), three layers of sizes 13-10-8-3
    (sigmoid), float64. Training accuracy 100 %, by ``tests/networks/wine_sklearn.py``.
    """
    return _load("wine_sklearn", xp)


def magika(*, xp: Namespace | None = None) -> Snapshot:
    """Return the last layer of a published network that tells kinds of file apart.

    N = 156 files of C = 12 kinds (8 to 25), one layer of size 512-12: what the last
    layer of magika (Google, Apache-2.0, ONNX) sees of them, and its logits of these 12
    of its 214 kinds, in float32. The network was not trained on these files, and the
    labels are file extensions; 98 % agree. Made by ``tests/networks/magika_onnx.py``.
    """
    return _load("magika", xp)


def _load(name: str, xp: Namespace | None) -> Snapshot:
    with resources.as_file(resources.files("refspec.data") / f"{name}.npz") as path:
        return load(path, xp=xp)
