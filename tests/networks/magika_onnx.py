"""Export a published network, magika, over files found here; needs onnx and magika.

    python tests/networks/magika_onnx.py [refspec/data/magika.npz]

magika (Google, Apache-2.0) tells 214 kinds of file apart from their first and last
bytes; its network comes as ONNX in the package. The samples are files of the installed
Python packages, labelled by extension. Only extensions that mean one kind are taken
(not .h, which is C or C++, nor .txt); what a file is called need not be what it holds,
so an error here is not always the network's. Which files there are depends on what is
installed. The export holds the inputs of the last layer, 512 numbers a file that no
file can be read from, and the 12 logits of these kinds; no file's contents.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import magika
import numpy as np

from refspec.export import load
from refspec.exporters.onnx import export

#: Kinds, their extensions, and at most how many files of each.
KINDS: dict[str, tuple[tuple[str, ...], int]] = {
    "c": ((".c",), 12),
    "cmake": ((".cmake",), 8),
    "cpp": ((".cpp", ".cc"), 18),
    "csv": ((".csv",), 10),
    "elf": ((".so",), 16),
    "fortran": ((".f90",), 9),
    "markdown": ((".md",), 8),
    "npy": ((".npy",), 9),
    "png": ((".png",), 10),
    "python": ((".py",), 25),
    "pythonbytecode": ((".pyc",), 20),
    "ttf": ((".ttf",), 11),
}
FOLDER = Path(magika.__file__).parent / "models"


def files(suffixes: tuple[str, ...], most: int) -> list[Path]:
    """Return files of installed packages with these extensions, drawn at random."""
    packages = Path(sysconfig.get_paths()["purelib"])
    found = sorted(
        x
        for x in packages.rglob("*")
        if x.suffix in suffixes and x.is_file() and x.stat().st_size >= 256
    )
    drawn = np.random.default_rng(0).permutation(len(found))[:most]
    return [found[k] for k in sorted(drawn)]


def tokens(path: Path, config: dict[str, int]) -> np.ndarray:
    """Return what magika reads of a file: bytes, and 256 where there are none.

    The first block without white space before it, the last without any after it, cut
    to size; see the feature extraction in its package.
    """
    data, size = path.read_bytes(), config["block_size"]
    head = data[:size].lstrip()[: config["beg_size"]]
    tail = data[-size:].rstrip()[-config["end_size"] :]
    found = np.full(config["beg_size"] + config["end_size"], config["padding_token"])
    found[: len(head)] = list(head)
    found[len(found) - len(tail) :] = list(tail)
    return found.astype(np.int32)


def main(path: Path) -> None:
    """Collect, export, and say how often label and network agree."""
    (model,) = FOLDER.glob("*/model.onnx")
    config = json.loads((model.parent / "config.min.json").read_text())
    chosen = [files(*x) for x in KINDS.values()]
    X = np.stack([tokens(x, config) for kind in chosen for x in kind])
    y = np.repeat(np.arange(len(KINDS)), [len(kind) for kind in chosen])
    columns = [config["target_labels_space"].index(x) for x in KINDS]
    batches = [(X[k], y[k]) for k in np.array_split(np.arange(len(y)), 8)]
    said = {
        "data": "files of installed Python packages, labelled by extension",
        "network": f"magika {metadata.version('magika')}, {model.parent.name}",
        "licence": "Apache-2.0, Copyright Google LLC",
    }
    names = list(KINDS)
    export(model, batches, path, classes=columns, class_names=names, provenance=said)
    made = load(path)
    agree = float((made.probabilities.argmax(axis=1) == made.labels).mean())
    sys.stdout.write(
        f"accuracy {agree:.4f} among {len(KINDS)} kinds, {len(y)} files, "
        f"{path.stat().st_size / 1e3:.0f} kB in {path.name}\n"
    )


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2] / "refspec/data/magika.npz"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
