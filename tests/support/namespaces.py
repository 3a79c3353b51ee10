"""Array namespaces that kernels are tested under."""

import array_api_compat.numpy
import array_api_strict
import numpy as np


def _read_only(x, **kwargs):
    array = np.array(x, **kwargs)
    array.setflags(write=False)
    return array


def _on_device(x, **kwargs):
    """An array that is not on the host: a hidden transfer is an error."""
    device = array_api_strict.Device("device1")
    return array_api_strict.asarray(x, device=device, **kwargs)


NAMESPACES = {
    "numpy": array_api_compat.numpy.asarray,
    "read-only": _read_only,
    "strict": array_api_strict.asarray,
    "device": _on_device,
}
