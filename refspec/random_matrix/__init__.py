"""The spectrum predicted without simulation: limiting laws of planted worlds."""

from refspec.random_matrix.comparison import Comparison as Comparison
from refspec.random_matrix.comparison import compare as compare
from refspec.random_matrix.free_laws import FreeLaw as FreeLaw
from refspec.random_matrix.isotropic_designs import Reduction as Reduction
from refspec.random_matrix.isotropic_designs import reduction as reduction
from refspec.random_matrix.kronecker_designs import (
    kronecker_design as kronecker_design,
)
from refspec.random_matrix.kronecker_predictions import (
    KroneckerPrediction as KroneckerPrediction,
)
from refspec.random_matrix.law_tables import Band as Band
from refspec.random_matrix.law_tables import LawTable as LawTable
from refspec.random_matrix.law_tables import of_free_law as of_free_law
from refspec.random_matrix.law_tables import quantiles as quantiles
from refspec.random_matrix.nested_designs import nested_design as nested_design
from refspec.random_matrix.nested_spectra import tabulate as tabulate
from refspec.random_matrix.outliers import Outliers as Outliers
from refspec.random_matrix.outliers import split_threshold as split_threshold
from refspec.random_matrix.outliers import strength_threshold as strength_threshold
from refspec.random_matrix.prediction import Prediction as Prediction
from refspec.random_matrix.prediction import predict as predict

__all__ = [
    "Band",
    "Comparison",
    "FreeLaw",
    "KroneckerPrediction",
    "LawTable",
    "Outliers",
    "Prediction",
    "Reduction",
    "compare",
    "kronecker_design",
    "nested_design",
    "of_free_law",
    "predict",
    "quantiles",
    "reduction",
    "split_threshold",
    "strength_threshold",
    "tabulate",
]
