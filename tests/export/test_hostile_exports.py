"""Files that mean harm, or are far too large: refused in a sentence, soon and cheaply.

The sentence comes before the memory is taken and the time is spent; `tests/fuzz` tries
the cases that nobody thought of.
"""

import json
import os
import resource
import shutil
import struct
import threading
import zipfile
import zlib

import numpy as np
import pytest

from refspec import export
from refspec.classes import Layer, snapshot
from refspec.export import ExportError, archives, containers, documents, groups, memory
from refspec.export.digests import fingerprint

N, C = 6, 3
LARGE = 2**33  # bytes that no test may take


def make():
    rng = np.random.default_rng(0)
    layer = Layer("fc", rng.normal(size=(N, 1, 4)), rng.normal(size=(N, C, 1, 5)))
    return snapshot([layer], [0, 0, 1, 1, 2, 2], logits=rng.normal(size=(N, C)))


@pytest.fixture
def npz(tmp_path):
    return export.save(make(), tmp_path / "run.npz")


@pytest.fixture
def store(tmp_path):
    return export.save(make(), tmp_path / "run.zarr")


def refused(path, message, **settings):
    """Refuse within 64 MiB more memory than before, at its peak."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ExportError, match=message):
        export.load(path, **settings)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before <= 2**16


def members(path):
    with zipfile.ZipFile(path) as file:
        return {x: file.read(x) for x in file.namelist()}


def rewrite(path, items):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in items:
            file.writestr(name, data)


def header(shape, dtype="<f8", more=b""):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + more


def member(key):
    return f"layers/0/{key}.npy"


@pytest.mark.parametrize("shape", [(N, 1, 2**40), (N, 1, 2**62), (2**64, 1, 1)])
def test_a_header_that_lies_is_compared_with_the_archive(npz, shape):
    there = members(npz) | {member("features"): header(shape, more=b"\0" * 99)}
    rewrite(npz, there.items())
    refused(npz, "features: expected 99 bytes, as the archive states, got '?float64")


def test_a_header_that_announces_less_than_there_is(npz):
    data = header((N, 1, 1), more=b"\0" * (8 * N + 8))
    rewrite(npz, (members(npz) | {member("features"): data}).items())
    refused(npz, f"features: expected {8 * N + 8} bytes, as the archive states, got")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header((-1, 1, 4)), "as the archive states"),
        (header((-1, 1, -4), more=b"\0" * 32), "as the archive states"),
        (header((N, 1, 4), "|O"), "pickle"),
        (header((N, 1, 4), "<U0"), "as the archive states"),
        (header("[6]"), "damaged"),
        (header("(" * 300 + "6" + ",)" * 300), "damaged"),
        (header("(6,)" * 5000), "damaged"),
        (header((N, 1, 4)).replace(b"\x01\x00", b"\x03\x00", 1), "version"),
        (b"\x93NUMPY", "damaged"),
        (b"", "damaged"),
    ],
)
def test_headers_that_are_none(npz, data, message):
    there = members(npz) | {member("features"): data}
    rewrite(npz, there.items())
    refused(npz, message)


def test_an_archive_that_inflates_past_the_budget(npz):
    """A member of zeros, a thousandth of its size in the archive, all of it legal."""
    a = LARGE // 8 // N
    size = len(header((N, 1, a))) + 8 * N * a
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = header((N, 1, a))
    block = b"\0" * 2**20
    start = deflate.compress(head + block) + deflate.flush(zlib.Z_FULL_FLUSH)
    middle = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
    there = members(npz)
    del there[member("features")]
    rewrite(npz, there.items())
    data = start + middle * 100  # the rest is not needed: it is never reached
    info = zipfile.ZipInfo(member("features"))
    info.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(npz, "a") as file:
        info.header_offset = file.fp.tell()
        file.fp.seek(file.start_dir)
        info.header_offset = file.start_dir
        info.CRC, info.compress_size, info.file_size = 1, len(data), size
        file.fp.write(info.FileHeader(zip64=True) + data)
        file.start_dir = file.fp.tell()
        file.filelist.append(info)
        file.NameToInfo[info.filename] = info
        file._didModify = True
    message = rf"features: expected .* at most {LARGE // 2} bytes .*shape \(6, 1, {a}\)"
    refused(npz, message, max_bytes=LARGE // 2)


def test_the_budget_is_the_arrays_as_stored_and_twice_as_read(npz):
    stored = sum(x.nbytes for x in containers.read(npz)[1].values())
    values = sum(x.size for x in containers.read(npz)[1].values())
    need = stored + 16 * values
    assert export.load(npz, max_bytes=need).offsets == (0, 2, 4, 6)
    refused(npz, f"at most {need - 1} bytes of memory, got {need}", max_bytes=need - 1)
    assert export.load(npz, max_bytes=stored + 8 * values, dtype="float32")
    assert export.digest(npz, max_bytes=stored)
    for bad in (0, -1, 2.5, True, "1", np.nan):
        with pytest.raises(
            (ValueError, TypeError), match="max_bytes must be an integer"
        ):
            export.load(npz, max_bytes=bad)


def test_memory_that_runs_out_is_not_called_damage(npz, store, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    for path in (npz, store):
        monkeypatch.setattr(memory.np, "empty", full)
        with pytest.raises(ExportError, match=r"expected \d+ bytes of memory") as told:
            export.load(path)
        monkeypatch.undo()
        assert "damaged" not in str(told.value)
    monkeypatch.setattr("refspec.export.snapshots.classes.snapshot", full)
    with pytest.raises(ExportError, match=r"expected \d{4} bytes of memory"):
        export.load(npz)


def test_a_path_is_a_path():
    for bad in (7, None, [1]):
        with pytest.raises(TypeError, match="path must be a str or PathLike"):
            export.load(bad)
    with pytest.raises(ExportError, match="expected a name"):
        export.load("a\0.npz")


def test_batches_without_a_key_of_the_first_are_refused(tmp_path):
    for name in ("run.npz", "run.zarr"):
        with pytest.raises(ExportError, match=r"b: expected batches of the keys"):
            containers.write(
                tmp_path / name,
                {},
                [{"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2)}],
            )
    assert os.listdir(tmp_path) == []


def test_a_member_twice_is_refused(npz):
    there = members(npz)
    with pytest.warns(UserWarning, match="Duplicate"):
        rewrite(npz, [*there.items(), ("labels.npy", there["labels.npy"])])
    refused(npz, "labels: expected each key once")


def test_other_members_are_refused(npz):
    there = members(npz)
    for name in ("readme.txt", "label", "folder/", "evil\x1b[31m.npy"):
        rewrite(npz, [*there.items(), (name, b"")])
        refused(npz, "expected arrays only")
    with zipfile.ZipFile(npz, "w", zipfile.ZIP_BZIP2) as file:
        for name, data in there.items():
            file.writestr(name, data)
    refused(npz, "another compression")


def test_an_end_of_archive_with_nothing_before_it(tmp_path):
    """42 bytes: a zip64 locator that leads nowhere."""
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 2**40, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", *[2**16 - 1] * 4, *[2**32 - 1] * 2, 0)
    (tmp_path / "run.npz").write_bytes(locator + end)
    refused(tmp_path / "run.npz", "BadZipFile|none; it is truncated")


def test_a_manifest_beyond_all_measure(npz, monkeypatch):
    monkeypatch.setattr(documents, "SIZE", 1000)
    manifest, arrays = containers.read(npz)
    text = json.dumps(manifest | {"architecture": "x" * 1000})
    np.savez(npz, manifest=np.array(text), **arrays)
    refused(npz, "at most 1000 characters")
    with pytest.raises(ExportError, match="at most 1000 characters"):
        containers.write(npz, manifest | {"architecture": "x" * 1000}, [], arrays)


def test_what_is_written_obeys_the_limits_of_what_is_read(tmp_path):
    deep = []
    for _ in range(70):
        deep = [deep]
    endless = []
    endless.append(endless)
    far = []
    for _ in range(10**5):
        far = [far]
    for bad, message in [
        (deep, "at most 64 deep"),
        (endless, "Circular"),
        (far, "recursion"),
        (np.nan, "Out of range"),
        (object(), "not JSON"),
    ]:
        with pytest.raises(ExportError, match=f"manifest: .*{message}"):
            containers.write(tmp_path / "run.npz", {"x": bad}, [])
    assert os.listdir(tmp_path) == []


def test_a_pipe_a_device_or_a_link_in_a_store_is_not_opened(store, tmp_path):
    chunk = store / "layers/0/errors/c/0/0/0/0"
    data = chunk.read_bytes()
    chunk.unlink()
    os.mkfifo(chunk)
    refused(store, "no regular file")
    chunk.unlink()
    (tmp_path / "secret").write_bytes(data)
    chunk.symlink_to(tmp_path / "secret")
    refused(store, "symbolic links")
    chunk.unlink()
    chunk.symlink_to("/dev/zero")
    refused(store, "symbolic links")
    chunk.unlink()
    chunk.mkdir()
    refused(store, "no regular file")
    chunk.rmdir()
    chunk.write_bytes(data)
    assert export.load(store)
    shutil.move(store / "layers", tmp_path / "layers")
    (store / "layers").symlink_to(tmp_path / "layers")
    refused(store, "the link 'layers'")


def test_a_link_to_a_store_or_an_archive_is_followed(npz, store, tmp_path):
    for path in (npz, store):
        link = tmp_path / f"link{path.suffix}"
        link.symlink_to(path.name)
        assert export.load(link)


def metadata(path, **changes):
    document = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(document | changes))


def chunks(*shape):
    return {"name": "regular", "configuration": {"chunk_shape": shape}}


def test_three_million_chunks_of_nothing(store):
    """264 kB of metadata; every chunk is to be there, and the first is not."""
    n = 3 * 10**6
    shutil.rmtree(store / "layers/0/features/c")
    metadata(store / "layers/0/features", shape=[N, n, 4], chunk_grid=chunks(N, 1, 4))
    refused(store, r"errors: expected shape .*T0 = 3000000")
    metadata(
        store / "layers/0/errors", shape=[N, C, n, 5], chunk_grid=chunks(N, C, 1, 5)
    )
    refused(store, r"at most \d+ bytes of memory, got 8\d{9} ", max_bytes=LARGE // 2)
    shutil.rmtree(store / "layers/0/errors/c")
    metadata(
        store / "layers/0/errors", shape=[N, C, 1, 5], chunk_grid=chunks(1, 1, 1, 1)
    )
    metadata(store / "layers/0/features", shape=[N, 1, n], chunk_grid=chunks(N, 1, 1))
    refused(store, "FileNotFoundError")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [N, 1, 2**40]}, "bytes of memory"),
        ({"chunk_grid": chunks(N, 1, 2**40)}, "bytes of memory"),
        ({"shape": [N, 1, -4]}, "expected a shape"),
        ({"shape": [N, 1, 4.0]}, "expected a shape"),
        ({"shape": [N, 1, True]}, "expected a shape"),
        ({"shape": None}, "expected a shape"),
        ({"data_type": "string"}, "expected a data_type"),
        ({"data_type": ["float64"]}, "expected a data_type"),
        ({"data_type": "float16"}, "float32 or float64, got float16"),
        ({"chunk_grid": chunks(N, 1)}, "regular chunks"),
        ({"chunk_grid": chunks(N, 1, 0)}, "regular chunks"),
        ({"chunk_grid": {"name": "rectangular"}}, "expected an object, got None"),
        ({"chunk_grid": []}, "expected an object"),
        ({"chunk_key_encoding": {"name": "mine"}}, "chunk keys of kind"),
        (
            {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "x"}}},
            "chunk keys of kind",
        ),
        ({"chunk_key_encoding": {"name": "v2"}}, "FileNotFoundError"),
        ({"storage_transformers": [{"name": "x"}]}, "no storage_transformers"),
        ({"codecs": []}, "codecs bytes"),
        ({"codecs": None}, "codecs bytes"),
        ({"codecs": [{"name": "sharding_indexed"}]}, "codecs bytes"),
        ({"codecs": [{"name": "bytes", "configuration": 1}]}, "expected an object"),
        (
            {"codecs": [{"name": "bytes", "configuration": {"endian": "x"}}]},
            "endian little or big",
        ),
        ({"codecs": [{"name": "bytes"}]}, "bytes in a chunk of"),
        ({"codecs": [{"name": "bytes"}, {"name": "gzip"}]}, "incorrect header"),
        ({"zarr_format": 2}, "zarr_format 2"),
        ({"node_type": "group"}, "features: expected this key"),
        ({"node_type": None}, "features: expected this key"),
    ],
)
def test_metadata_that_does_not_fit(store, changes, message):
    metadata(store / "layers/0/features", **changes)
    refused(store, message)


def test_chunks_that_inflate_past_their_size(store):
    zstd = pytest.importorskip("numcodecs.zstd")
    chunk = store / "layers/0/features/c/0/0/0"
    chunk.write_bytes(zstd.compress(b"\0" * 2**27, 1))
    refused(store, "too small|bytes in")
    gzip = [{"name": "bytes"}, {"name": "gzip"}]
    metadata(store / "layers/0/features", codecs=gzip)
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk.write_bytes(deflate.compress(b"\0" * 2**21) + deflate.flush())
    refused(store, "not 192 bytes and complete")
    with open(chunk, "wb") as file:
        file.truncate(2**40)  # sparse
    refused(store, r"1099511627776 bytes in layers/0/features/c/0/0/0")


def test_a_store_of_too_many_or_too_deep_groups(store, monkeypatch):
    deep = store
    for _ in range(12):
        deep = deep / "x"
        deep.mkdir()
        shutil.copy(store / "layers" / "zarr.json", deep)
    refused(store, "8 deep")
    shutil.rmtree(store / "x")
    (store / "no node").mkdir()
    (store / "layers" / ".DS_Store").write_text("x")
    assert export.load(store)
    monkeypatch.setattr(groups, "_NODES", 5)
    refused(store, "at most 5 groups and arrays")
    monkeypatch.undo()
    (store / "bad\x1b[31mname").mkdir()
    refused(store, "printable names")


@pytest.mark.parametrize("codec", ["gzip", "zstd", None])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("kind", ["default", "v2"])
@pytest.mark.parametrize("separator", ["/", "."])
def test_what_zarr_writes_in_other_ways_is_read(
    tmp_path, codec, endian, kind, separator
):
    zarr = pytest.importorskip("zarr")
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(7, 3)),
        "deep/b": rng.normal(size=(5, 2, 3)).astype("f4"),
        "c": np.arange(6),
        "d": np.array(2.5),
    }
    group = zarr.open_group(str(tmp_path / "run.zarr"), mode="w", zarr_format=3)
    for key, x in arrays.items():
        chunk = {"a": (3, 2), "deep/b": (2, 2, 2), "c": (4,), "d": ()}[key]
        group.create_array(
            key,
            data=x,
            chunks=chunk,
            serializer=zarr.codecs.BytesCodec(endian=endian),
            compressors=codec and {"name": codec, "configuration": {"level": 1}},
            chunk_key_encoding={"name": kind, "separator": separator},
        )
    group.attrs["manifest"] = {"x": 1}
    manifest, found = containers.read(tmp_path / "run.zarr")
    assert manifest == {"x": 1}
    assert sorted(found) == sorted(arrays)
    for key, x in arrays.items():
        assert found[key].dtype == x.dtype
        assert np.array_equal(found[key], x)
    assert fingerprint(manifest, found) == fingerprint(manifest, arrays)


def test_arrays_in_fortran_order_are_read(tmp_path):
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez(tmp_path / "run.npz", manifest=np.array("{}"), x=x)
    assert np.array_equal(containers.read(tmp_path / "run.npz")[1]["x"], x)
    assert archives  # the module under test


def test_chunks_of_zeros_are_stored(tmp_path):
    path = containers.write(tmp_path / "run.zarr", {}, [{"x": np.zeros((4, 2))}])
    assert (path / "x/c/0/0").is_file()
    assert np.array_equal(containers.read(path)[1]["x"], np.zeros((4, 2)))


def test_numbers_without_axes_are_parameters_too(tmp_path):
    for name in ("run.npz", "run.zarr"):
        path = containers.write(tmp_path / name, {}, [], {"x": np.array(2.5)})
        assert containers.read(path)[1]["x"] == 2.5


def test_a_reader_never_sees_half_of_a_store(tmp_path):
    """Two stores take turns under one name; what is read is one of them, whole."""
    path = tmp_path / "run.zarr"
    rows = {k: np.full((40, 2), k) for k in (1, 2)}
    batches = {k: [{"x": rows[k][i : i + 10]} for i in range(0, 40, 10)] for k in rows}
    containers.write(path, {"k": 1}, batches[1])
    done, failed = threading.Event(), []

    def write():
        for k in (2, 1) * 3:
            containers.write(path, {"k": k}, batches[k])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    reads = 0
    while not done.is_set():
        manifest, arrays = containers.read(path)
        whole = np.array_equal(arrays["x"], rows[manifest["k"]])
        if not whole or manifest["digest"] != fingerprint(manifest, arrays):
            failed.append(manifest)  # pragma: no cover
        reads += 1
    thread.join()
    assert not failed
    assert reads
    assert os.listdir(tmp_path) == ["run.zarr"]
