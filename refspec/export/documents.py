"""The manifest as a JSON document: plain, and bounded in size and depth.

A document of a file is hostile until it is seen to be small, shallow and free of nan;
what we write obeys the same limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from refspec.export.errors import ExportError

#: Characters of a document at most, and how deep its lists and objects may nest.
SIZE, DEPTH = 2**24, 64


def parse(path: object, key: str, text: str) -> dict[str, Any]:
    """Return the JSON object that a text holds, or refuse it."""
    if len(text) > SIZE:
        raise ExportError(
            path,
            key,
            f"expected a JSON document of at most {SIZE} characters, got {len(text)}; "
            "keep data in arrays",
        )
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ExportError(
            path, key, f"expected a JSON document, got {error}; export it again"
        ) from error
    _expect_shallow(path, key, found)
    if not isinstance(found, dict):
        raise ExportError(
            path,
            key,
            f"expected a JSON object, got {type(found).__name__}; this file is not a "
            "refspec export",
        )
    return found


def plain(path: object, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as JSON gives it back, or say why JSON cannot hold it."""
    try:
        text = json.dumps(manifest, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ExportError(
            path, "manifest", f"expected JSON-able provenance, got {error}; use strings"
        ) from error
    return parse(path, "manifest", text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant}, which is no JSON")


def _expect_shallow(path: object, key: str, document: Any) -> None:
    """Refuse what nests deeper than `DEPTH`: repr and json recurse, and would fail."""
    level, depth = [document], 0
    while level:
        if depth > DEPTH:
            raise ExportError(
                path,
                key,
                f"expected lists and objects at most {DEPTH} deep, got deeper ones; "
                "make them flat",
            )
        inner = (x.values() if isinstance(x, dict) else x for x in level)
        level = [y for x in inner for y in x if isinstance(y, dict | list)]
        depth += 1
