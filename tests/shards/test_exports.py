"""Parts of an export are its samples, read without the others."""

import pickle
import re

import numpy as np
import pytest

import refspec
from refspec import export, memory
from refspec.export import ExportError, groups
from refspec.shards import joined, parts_of
from support.snapshots import sampled, typical


@pytest.fixture
def made(monkeypatch):
    """A snapshot whose file has several chunks an array."""
    monkeypatch.setattr(groups, "CHUNK", 2**9)
    return sampled(0, counts=(7, 5, 6), T=2)


@pytest.fixture
def store(made, tmp_path):
    return export.save(made, tmp_path / "run.zarr")


@pytest.mark.parametrize("ends", [(0, 18), (0, 5), (3, 4), (6, 17), (17, 18)])
def test_samples_are_those_of_the_file(made, store, ends):
    i, j = ends
    found = refspec.load(store, samples=ends)
    w = made.sample_weights[i:j]
    assert found.labels.tolist() == made.labels[i:j].tolist()
    assert np.array_equal(found.probabilities, made.probabilities[i:j])
    assert np.abs(found.sample_weights - w / w.sum()).max() <= 2.0**-50
    for one, all_of_it in zip(found.layers, made.layers, strict=True):
        assert np.array_equal(one.features, all_of_it.features[i:j])
        assert np.array_equal(one.errors, all_of_it.errors[i:j])
    only = refspec.load(store, samples=ends, layers=["fc2"])
    assert [x.name for x in only.layers] == ["fc2"]


@pytest.mark.parametrize("count", [1, 4, 18])
@pytest.mark.parametrize("layers", [None, ["fc2"]])
def test_parts_joined_are_the_whole(made, store, count, layers):
    parts, shares = parts_of(store, count, layers)
    assert len(parts) == count
    found = refspec.attribute(joined(parts, shares=shares))
    true = refspec.attribute(refspec.fisher(made, layers))
    radius = found.radius + true.radius
    n = min(len(found.spectrum.values), len(true.spectrum.values))
    gap = np.abs(found.spectrum.values[:n] - true.spectrum.values[:n])
    assert gap.max() <= radius
    assert not np.abs(gap + 2.0**-20 * true.spectrum.values[0]).max() <= radius


def test_only_the_chunks_of_the_samples_are_read(store, monkeypatch):
    read = []
    file = groups._file

    def seen(root, parts, most):
        read.append("/".join(parts))
        return file(root, parts, most)

    monkeypatch.setattr(groups, "_file", seen)
    refspec.load(store, samples=(0, 2))
    chunks = {x for x in read if x.startswith("layers/0/errors/c/")}
    every = {x.name for x in (store / "layers/0/errors/c").iterdir()}
    assert 0 < len(chunks) < len(every)


def test_memory_below_a_chunk_says_what_would_do(store):
    """And that is no less than needed, and enough."""
    with memory.within(300), pytest.raises(ExportError) as raised:
        parts_of(store, 2)
    said = str(raised.value)
    assert "expected chunks that need at most 300 bytes of memory each" in said
    enough = int(re.search(r"allow (\d+) bytes", said)[1])
    with memory.within(enough):
        parts_of(store, 2)
    with memory.within(enough - 1), pytest.raises(ExportError):
        parts_of(store, 2)


def test_parts_without_weight_are_left_out(tmp_path):
    s = typical(counts=(4, 4))
    weights = np.asarray([0, 0, 0, 0, 1, 1, 1, 1]) / 4
    made = refspec.snapshot(
        s.layers, s.labels, probabilities=s.probabilities, sample_weights=weights
    )
    path = export.save(made, tmp_path / "run.zarr")
    parts, shares = parts_of(path, 2)
    assert [x.samples for x in parts] == [(4, 8)]
    assert shares == [1.0]


def test_what_is_wrong_with_a_file_travels():
    error = pickle.loads(pickle.dumps(ExportError("run.npz", "labels", "wrong")))
    assert type(error) is ExportError
    assert str(error) == "run.npz: labels: wrong"


def test_a_file_that_was_altered_or_has_no_parts_is_refused(store, made, tmp_path):
    for count in (0, 19):
        with pytest.raises(ValueError, match=r"count"):
            parts_of(store, count)
    with pytest.raises(ValueError, match="layers"):
        parts_of(store, 2, ["no"])
    for samples in ((0, 19), (3, 3), (-1, 4)):
        with pytest.raises(ValueError, match="samples must be i < j within 0"):
            refspec.load(store, samples=samples)
    other = export.save(made, tmp_path / "run.npz")
    with pytest.raises(ExportError, match=r"expected a \.zarr folder"):
        refspec.load(other, samples=(0, 2))
    chunk = sorted((store / "layers/1/features/c").rglob("*"))[-1]
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(ExportError):
        parts_of(store, 2)
