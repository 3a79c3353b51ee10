"""The spectrum predicted without simulation: limiting laws of planted worlds.

`predict` takes a population to a `Prediction`, `discrepancy` compares it with a
measured spectrum. The laws are in three folders, by what they allow: `free`
(covariances that are numbers; exact), `nested` (any covariances), `kronecker`
(gradients).
"""

from refspec.random_matrix.comparison import discrepancy as discrepancy
from refspec.random_matrix.prediction import KroneckerPrediction as KroneckerPrediction
from refspec.random_matrix.prediction import Prediction as Prediction
from refspec.random_matrix.prediction import predict as predict
from refspec.random_matrix.repulsion import Spacings as Spacings
from refspec.random_matrix.repulsion import spacings as spacings

__all__ = [
    "KroneckerPrediction",
    "Prediction",
    "Spacings",
    "discrepancy",
    "predict",
    "spacings",
]
