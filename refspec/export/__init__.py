"""Snapshots in files: `save` and `load`, without pickles, all or nothing."""

from refspec.export.containers import digest as digest
from refspec.export.errors import ExportError as ExportError
from refspec.export.snapshots import assemble as assemble
from refspec.export.snapshots import load as load
from refspec.export.snapshots import save as save
from refspec.export.snapshots import sizes as sizes

__all__ = [
    "ExportError",
    "assemble",
    "digest",
    "load",
    "save",
]
