"""Networks seen through samples: logits, losses, gradients, snapshots."""

from refspec.models.evaluation import all_errors as all_errors
from refspec.models.evaluation import backpropagate as backpropagate
from refspec.models.evaluation import forward as forward
from refspec.models.evaluation import gradients as gradients
from refspec.models.evaluation import logits as logits
from refspec.models.evaluation import loss as loss
from refspec.models.evaluation import loss_and_gradient as loss_and_gradient
from refspec.models.evaluation import misses as misses
from refspec.models.evaluation import one_hot as one_hot
from refspec.models.evaluation import sample_average as sample_average
from refspec.models.evaluation import snapshot as snapshot
from refspec.models.network import Network as Network
from refspec.models.network import cnn as cnn
from refspec.models.network import flatten as flatten
from refspec.models.network import from_section as from_section
from refspec.models.network import layer_shapes as layer_shapes
from refspec.models.network import mlp as mlp
from refspec.models.network import softmax_regression as softmax_regression
from refspec.models.network import to_section as to_section
from refspec.models.network import unflatten as unflatten

__all__ = [
    "Network",
    "all_errors",
    "backpropagate",
    "cnn",
    "flatten",
    "forward",
    "from_section",
    "gradients",
    "layer_shapes",
    "logits",
    "loss",
    "loss_and_gradient",
    "misses",
    "mlp",
    "one_hot",
    "sample_average",
    "snapshot",
    "softmax_regression",
    "to_section",
    "unflatten",
]
