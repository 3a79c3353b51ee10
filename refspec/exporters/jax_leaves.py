"""The arrays of a tree of JAX's by name, and which of them are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from refspec import checks
from refspec.export.errors import shown

Choice = Sequence[str] | Callable[[str, Any], bool] | None


class Leaves:
    """The arrays of a tree by name, and which of them are chosen."""

    def __init__(self, parameters: Any, chosen: Choice) -> None:
        self.names, self.arrays, self.rebuild = leaves_of(parameters)
        real = {
            name: k
            for k, (name, x) in enumerate(zip(self.names, self.arrays, strict=True))
            if jnp.issubdtype(x.dtype, jnp.floating)
        }
        if not real or len(set(self.names)) < len(self.names):
            raise ValueError(
                "parameters must be a tree of arrays with distinct names, some of them "
                f"real, got {self.names}; give them as a dict, or rename them"
            )
        flax = isinstance(parameters, Mapping) and "params" in parameters
        self._every = [x for x in real if not flax or x.startswith("params.")]
        wanted = self._wanted(chosen, real)
        self.at = [k for name, k in real.items() if name in wanted]

    def _wanted(self, chosen: Choice, real: Mapping[str, int]) -> set[str]:
        """Return the names chosen, by default all parameters."""
        wanted = set(self._every)
        if callable(chosen):
            wanted = {name for name, k in real.items() if chosen(name, self.arrays[k])}
        elif chosen is not None:
            advice = "give names in a list, or a predicate of name and leaf"
            if isinstance(chosen, str):
                raise TypeError(f"chosen must be a list, got {chosen!r}; {advice}")
            checks.expect_type("chosen", chosen, Iterable, advice)
            wanted = set()
            for each in chosen:
                checks.expect_type("each of chosen", each, str, advice)
                found = {x for x in real if x == each or x.startswith(f"{each}.")}
                if not found:
                    raise ValueError(
                        f"chosen must be names among {shown(list(real), 200)}, or what "
                        f"holds some, got {each!r}; correct the name"
                    )
                wanted |= found
        if not wanted:
            raise ValueError(
                f"chosen must be some of {shown(list(real), 200)}, got none of them; "
                "correct the names or the predicate"
            )
        return wanted

    def of(self, names: Sequence[str]) -> Leaves:
        """Return the same arrays, others of them chosen."""
        found = copy(self)
        found.at = [k for k, name in enumerate(self.names) if name in names]
        return found

    def sizes(self, *, chosen: bool) -> list[tuple[str, int]]:
        """Name the parameters that are chosen, or those that are not, with sizes."""
        return [
            (name, int(np.size(self.arrays[k])))
            for k, name in enumerate(self.names)
            if (k in self.at) == chosen and (chosen or name in self._every)
        ]


def leaves_of(
    parameters: Any,
) -> tuple[list[str], list[Any], Callable[[Sequence[Any]], Any]]:
    """Return names and arrays of a tree, and what puts arrays back into it."""
    try:
        paths, tree = jax.tree_util.tree_flatten_with_path(parameters)
    except (TypeError, ValueError) as error:  # keys that cannot be sorted
        raise ValueError(
            f"parameters must be a tree of arrays that JAX can flatten, got "
            f"{shown(str(error))}; give the keys of each dict one type"
        ) from error
    whole = [x for _, x in paths]
    at = [k for k, x in enumerate(whole) if _is_leaf(x)]
    names = [jax.tree_util.keystr(paths[k][0], simple=True, separator=".") for k in at]
    names = [x.replace("/", ".") or "parameters" for x in names]

    def rebuild(arrays: Sequence[Any]) -> Any:
        full = list(whole)
        for k, x in zip(at, arrays, strict=True):
            full[k] = x
        return jax.tree_util.tree_unflatten(tree, full)

    return names, [whole[k] for k in at], rebuild


def _is_leaf(x: Any) -> bool:
    """Whether an entry of the tree is an array of numbers."""
    there = isinstance(x, jax.Array | np.ndarray)
    return there and bool(jnp.issubdtype(x.dtype, np.number) or x.dtype == bool)
