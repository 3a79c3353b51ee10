"""The spectrum predicted without simulation: limiting laws of planted worlds.

`predict` takes a population to a `Prediction`, `law_of` and `predict_layer` a layer of
a network, `predict_glm` the Hessian of a generalised linear model, `predict_fit` a
logistic regression that is fitted; `discrepancy` compares with a measured spectrum. The
laws are in four folders, by what they allow: `free` (covariances that are numbers;
exact), `nested` (any covariances), `kronecker` (gradients), `conditional` (errors that
depend on features).
"""

from refspec.random_matrix.comparison import discrepancy as discrepancy
from refspec.random_matrix.fitted import Fit as Fit
from refspec.random_matrix.fitted import predict_fit as predict_fit
from refspec.random_matrix.layers import LayerLaw as LayerLaw
from refspec.random_matrix.layers import law_of as law_of
from refspec.random_matrix.layers import predict_layer as predict_layer
from refspec.random_matrix.prediction import KroneckerPrediction as KroneckerPrediction
from refspec.random_matrix.prediction import Prediction as Prediction
from refspec.random_matrix.prediction import predict as predict
from refspec.random_matrix.regressions import predict_glm as predict_glm
from refspec.random_matrix.repulsion import Spacings as Spacings
from refspec.random_matrix.repulsion import spacings as spacings

__all__ = [
    "Fit",
    "KroneckerPrediction",
    "LayerLaw",
    "Prediction",
    "Spacings",
    "discrepancy",
    "law_of",
    "predict",
    "predict_fit",
    "predict_glm",
    "predict_layer",
    "spacings",
]
