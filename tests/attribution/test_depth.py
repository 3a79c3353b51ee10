"""How clear the class structure is, from coordinates and from products alone."""

import numpy as np
import pytest

import refspec
from refspec import curvature
from refspec.attribution.depth import class_clarity, leading_clarity


@pytest.mark.parametrize("measured", [class_clarity, leading_clarity])
@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_one_feature_is_one_dimension_whatever_its_class_means(measured, apart):
    """Also where they are 0, and no class is told from another."""
    h = np.array([1.0, -1.0, 2.0, -2.0]) + apart * np.array([3.0, 3.0, -3.0, -3.0])
    layer = refspec.Layer("fc", h[:, None, None], np.zeros((4, 2, 1, 2)))
    p = np.full((4, 2), 0.5)
    moment = curvature.features(
        refspec.snapshot([layer], [0, 0, 1, 1], probabilities=p), "fc"
    )
    found = measured(moment)
    assert found.index == 1
    # class means are at 3 and -3 or both at 0, the mean square about them is 2.5
    far = abs(found.separation.value - 9 * apart / 2.5)
    assert far <= found.separation.radius < 2.0**-40
