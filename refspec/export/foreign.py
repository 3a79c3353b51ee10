"""What is taken for an export by mistake, and what makes one of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from refspec.text import listed

_TORCH = (
    "weights of a network",
    "load them into the model, and refspec.torch.export(model, loader, "
    "'mine.npz') writes one",
)
_TABLE = (
    "a table of data",
    "an export is of a trained network on data: fit one, and "
    "refspec.exporters.sklearn.export(model, [(X, y)], 'mine.npz') writes one",
)
_PICKLE = (
    "a pickle, which runs code when it is read",
    "load it in Python where you trust it, and refspec.torch.export(model, loader, "
    "'mine.npz'), or refspec.exporters.sklearn.export, writes one",
)
_KERAS = (
    "a network of Keras",
    "convert it to ONNX, and refspec.exporters.onnx.export('mine.onnx', batches, "
    "'mine.npz') writes one",
)
_ONNX = (
    "a network without data",
    "refspec.exporters.onnx.export('mine.onnx', batches, 'mine.npz') writes one",
)
_ARRAY = (
    "one array",
    "refspec.snapshot(...) takes arrays by name, refspec.save(snapshot, 'mine.npz') "
    "writes one",
)
_NOTEBOOK = (
    "a notebook",
    "refspec.save(snapshot, 'mine.npz') in a cell of it writes one",
)
_RESULT = ("text", "give the file that an exporter wrote, not what a command printed")

#: What a file is by its ending, and what to do.
_KNOWN = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".safetensors", ".bin"), _TORCH),
    **dict.fromkeys((".csv", ".tsv", ".parquet", ".xlsx", ".arff"), _TABLE),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), _KERAS),
    **dict.fromkeys((".json", ".txt", ".html"), _RESULT),
    ".onnx": _ONNX,
    ".npy": _ARRAY,
    ".ipynb": _NOTEBOOK,
}
_SHOWN = 6


def misnamed(path: Path) -> str:
    """Say that a path does not end as an export does."""
    got = repr(path.suffix) if path.suffix else "none"
    return f"expected a name ending in .npz or .zarr, got {got}; rename it"


def mistaken(path: Path) -> str:
    """Say what a path to be read is if it does not end so, and what to do."""
    if "\0" not in str(path) and path.is_dir():
        inside = _exports(path)
        told = f"give one in it: {listed(inside, _SHOWN)}"
        if not inside:
            told = "there is none in it; an exporter of refspec.exporters writes one"
        return f"expected an export, .npz or .zarr, got a folder; {told}"
    what, then = _KNOWN.get(path.suffix.lower(), ("", ""))
    if what:
        return f"expected an export, .npz or .zarr, got {what} ({path.suffix}); {then}"
    return misnamed(path)


def _exports(folder: Path) -> list[str]:
    """Name what is in a folder and ends as an export does."""
    with suppress(OSError):
        names = [x.name for x in folder.iterdir() if x.suffix in (".npz", ".zarr")]
        return sorted(names)
    return []
