"""What Hypothesis calls when it is imported, through the entry point `hypothesis`.

`hypothesis.strategies.from_type` then knows the types of refspec before anybody imports
refspec.strategies; the strategies themselves are imported when first asked for.
"""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Register each type of refspec with a strategy that is made when it is drawn."""
    from hypothesis import strategies as st

    from refspec.classes import ClassArray, Layer, ModelSection, Snapshot

    for kind in (ClassArray, Layer, ModelSection, Snapshot):
        st.register_type_strategy(kind, _made)


def _made(kind: type) -> Any:
    """Return the strategy of a type, now that refspec.strategies is needed."""
    from refspec.strategies import registration

    return registration.strategy(kind)
