"""The spectrum predicted without simulation: limiting laws of planted worlds.

`predict` takes a population to a `Prediction`, `discrepancy` compares it with a
measured spectrum. The laws are in three folders, by what they allow: `free`
(covariances that are numbers; exact), `nested` (any covariances), `kronecker`
(gradients).
"""

from refspec.random_matrix.comparison import Discrepancy as Discrepancy
from refspec.random_matrix.comparison import discrepancy as discrepancy
from refspec.random_matrix.free import FreeLaw as FreeLaw
from refspec.random_matrix.free import split_threshold as split_threshold
from refspec.random_matrix.free import strength_threshold as strength_threshold
from refspec.random_matrix.outliers import Outliers as Outliers
from refspec.random_matrix.prediction import KroneckerPrediction as KroneckerPrediction
from refspec.random_matrix.prediction import Prediction as Prediction
from refspec.random_matrix.prediction import predict as predict
from refspec.random_matrix.tables import Band as Band
from refspec.random_matrix.tables import LawTable as LawTable

__all__ = [
    "Band",
    "Discrepancy",
    "FreeLaw",
    "KroneckerPrediction",
    "LawTable",
    "Outliers",
    "Prediction",
    "discrepancy",
    "predict",
    "split_threshold",
    "strength_threshold",
]
