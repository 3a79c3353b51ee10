"""Train recurrent networks on speech and judge the claims at several epochs; torch.

    python tests/networks/speech.py RESULTS

The data are Japanese Vowels: 640 utterances of /ae/ by nine speakers, as sequences of 7
to 29 frames of 12 cepstral coefficients of linear prediction; who speaks is the class.
From Kudo, Toyama and Shimbo (1999), "Multidimensional curve classification using
passing-through regions", Pattern Recognition Letters 20; donated to the UCI archive
(CC BY 4.0 there, from memory: the archive was not at hand); read out of the wheel of
`aeon`, a published package (BSD 3-clause), which is fetched once by pip into a cache
and not installed. Never in CI. A sequence is put at the end of 29 frames, zeros before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from networks import paper
from networks.judged import begun, facts_of, spectrum
from refspec import claims
from refspec.claims.registry import Subject

WHEEL = "aeon==1.6.0"
INSIDE = "aeon/datasets/data/JapaneseVowels/JapaneseVowels_{}.ts"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "refspec"
FRAMES, SPEAKERS = 29, 9
EPOCHS = (10, 30, 100, 300)


class Listener(nn.Module):
    """A recurrent layer that hears an utterance, and a linear one that names it."""

    def __init__(self, kind: type[nn.RNNBase], wide: int) -> None:
        super().__init__()
        self.inner = kind(12, wide, batch_first=True)
        self.head = nn.Linear(wide, SPEAKERS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(x)[0][:, -1])


def utterances() -> tuple[np.ndarray, np.ndarray, int]:
    """Return sequences (M, 29, 12), speakers from 0, and how many are to be learned."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not list(CACHE.glob("aeon-*.whl")):
        fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(CACHE)]
        subprocess.run([*fetch, WHEEL], check=True)
    found, counts = [], []
    with zipfile.ZipFile(next(iter(CACHE.glob("aeon-*.whl")))) as wheel:
        for part in ("TRAIN", "TEST"):
            text = wheel.read(INSIDE.format(part)).decode()
            lines = text.split("@data", 1)[1].split()
            found += lines
            counts.append(len(lines))
    x, y = np.zeros((len(found), FRAMES, 12)), np.zeros(len(found), np.int64)
    for k, line in enumerate(found):
        *series, label = line.split(":")
        frames = np.array([[float(a) for a in s.split(",")] for s in series]).T
        x[k, FRAMES - len(frames) :] = frames
        y[k] = int(label) - 1
    return x, y, counts[0]


def data() -> paper.Data:
    """Return what is learned, sorted by speaker, and what measures the test error."""
    x, y, n = utterances()
    order = np.argsort(y[:n], kind="stable")
    X, Y = torch.tensor(x, dtype=torch.float32), torch.as_tensor(y)
    return paper.Data(X[:n][order], Y[:n][order], X[n:], Y[n:])


def main() -> None:
    """Train a GRU and an LSTM; write a record of each at every stop."""
    path, done = Path(sys.argv[1]) / "speech.json", []
    at = data()
    for kind, wide in ((nn.GRU, 32), (nn.LSTM, 32)):
        name = f"vowels_{kind.__name__.lower()}"
        recipe = paper.Recipe(name, epochs=EPOCHS[-1], rate=0.05, per_class=30)
        torch.manual_seed(0)
        model, start = Listener(kind, wide), time.perf_counter()
        for epoch in paper.train(model, at, recipe, EPOCHS):
            facts = facts_of(recipe, model, at, epoch)
            seconds = {"training": time.perf_counter() - start}
            moment = paper.moment(model, at)
            # differentiated once, and not again for every product
            held = replace(moment, rows=moment.rows.explicit(2**30))
            subject = Subject(held, 1100, False, 4096)
            found = list(claims.judge(subject, "GWDA"))
            seconds |= {x.claim.id: x.seconds for x in found}
            done.append(
                begun(recipe, model, at, facts, seconds)
                | {
                    "data": f"JapaneseVowels of {WHEEL}, UCI archive, CC BY 4.0",
                    "signs": asdict(claims.signs(subject.network)),
                    "claims": [x.plain() for x in found],
                    "spectrum": spectrum(subject),
                }
            )
            path.write_text(json.dumps(done))
            print(name, epoch, facts, [str(x) for x in found], flush=True)
            start = time.perf_counter()


if __name__ == "__main__":
    main()
