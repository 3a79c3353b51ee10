"""Which strategy `hypothesis.strategies.from_type` draws a type of refspec from.

`refspec.hypothesis_plugin` registers the same where refspec is installed, without an
import of refspec.strategies.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from refspec.classes import ClassArray, Layer, ModelSection, Snapshot
from refspec.models import Network, to_section
from refspec.strategies import samples, snapshots, sources
from refspec.strategies.matrices import Prescribed, symmetric_matrices
from refspec.synthetic import World


@st.composite
def _layers(draw: st.DrawFn) -> Layer:
    sizes = draw(samples.class_sizes())
    return draw(snapshots.layers(sum(sizes), len(sizes)))


def _sections() -> st.SearchStrategy[ModelSection]:
    return sources.labelled_networks().map(lambda x: to_section(x.network, x.inputs))


_STRATEGIES: dict[type, Any] = {
    ClassArray: snapshots.class_arrays,
    Layer: _layers,
    ModelSection: _sections,
    Network: sources.networks,
    Prescribed: symmetric_matrices,
    Snapshot: lambda: snapshots.snapshots(scored=None),
    World: sources.worlds,
    sources.LabelledNetwork: sources.labelled_networks,
}


def strategy(kind: type) -> st.SearchStrategy[Any]:
    """Return the strategy of one of refspec's types."""
    return _STRATEGIES[kind]()  # type: ignore[no-any-return]


def register() -> None:
    """Teach `from_type` every type that has a strategy here."""
    for kind in _STRATEGIES:
        st.register_type_strategy(kind, strategy(kind))
