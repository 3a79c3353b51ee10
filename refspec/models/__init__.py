"""Networks seen through samples: logits, losses, gradients, snapshots, training."""

from refspec.models.evaluation import all_errors as all_errors
from refspec.models.evaluation import gradients as gradients
from refspec.models.evaluation import logits as logits
from refspec.models.evaluation import loss as loss
from refspec.models.evaluation import loss_and_gradient as loss_and_gradient
from refspec.models.evaluation import snapshot as snapshot
from refspec.models.network import Network as Network
from refspec.models.network import cnn as cnn
from refspec.models.network import flatten as flatten
from refspec.models.network import from_section as from_section
from refspec.models.network import layer_shapes as layer_shapes
from refspec.models.network import mlp as mlp
from refspec.models.network import of_snapshot as of_snapshot
from refspec.models.network import softmax_regression as softmax_regression
from refspec.models.network import to_section as to_section
from refspec.models.network import unflatten as unflatten
from refspec.models.recompute import Difference as Difference
from refspec.models.recompute import recompute as recompute
from refspec.models.training import fit as fit

__all__ = [
    "Difference",
    "Network",
    "all_errors",
    "cnn",
    "fit",
    "flatten",
    "from_section",
    "gradients",
    "layer_shapes",
    "logits",
    "loss",
    "loss_and_gradient",
    "mlp",
    "of_snapshot",
    "recompute",
    "snapshot",
    "softmax_regression",
    "to_section",
    "unflatten",
]
