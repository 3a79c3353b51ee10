"""Ways to spoil an export, each a function of its parts and a random generator.

The parts are a dict of names to bytes: the members of an archive (with `None` the whole
file instead), or the files of a store; a value that is a word makes something else than
a file there.
"""

import io
import json
import struct
import zipfile

import numpy as np

from refspec.export.digests import fingerprint

HOSTILE = [
    *(
        None,
        True,
        0,
        -1,
        2**63,
        10**400,
        0.5,
        "",
        "x",
        "\x1b[31m",
        "\ud800",
        "a/b",
        "..",
    ),
    *([], {}, [[]], [None], ["fc", "fc"], {"a": [1]}, [1, "x"], "[/]", "x" * 10**5),
]
WORDS = ("pipe", "link", "zero", "folder")


def some_bytes(data, random):
    """Change, insert, repeat or cut bytes."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        if not data:
            break
        at, n = random.randrange(len(data)), random.choice((1, 2, 4, 16, 300))
        how = random.randrange(7)
        if how == 0:
            data[at] ^= 1 << random.randrange(8)
        elif how == 1:
            data[at : at + n] = random.randbytes(n)
        elif how == 2:
            del data[at : at + n]
        elif how == 3:
            data[at:at] = data[at : at + n]
        elif how == 4:
            data[at : at + n] = random.choice((b"\0", b"\xff", b"[", b"9")) * n
        elif how == 5:
            data[at : at + 4] = struct.pack("<L", random.choice((0, 2**31, 2**32 - 1)))
        else:
            del data[at:]
    return bytes(data)


def a_part(parts, random):
    name = random.choice(sorted(parts))
    parts[name] = some_bytes(parts[name], random)


def a_missing_part(parts, random):
    del parts[random.choice(sorted(parts))]


def a_new_part(parts, random):
    name = random.choice(sorted(parts))
    new = random.choice(
        ("x.npy", "../x.npy", "labels", "zarr.json", "x/zarr.json", "y" * 150)
    )
    parts[random.choice((new, name.replace("0", "1"), name + new))] = parts[name]


def exchanged_parts(parts, random):
    a, b = random.choice(sorted(parts)), random.choice(sorted(parts))
    parts[a], parts[b] = parts[b], parts[a]


def a_header(parts, random):
    """Give a member of an archive another header, of right length or not."""
    name = random.choice([x for x in sorted(parts) if x.endswith(".npy")])
    kind = random.choice(("<f8", "<f4", "<i8", "|O", "<U9", "|V0", "<M8[s]", "<c16"))
    sizes = (0, 1, 3, 6, -1, 2**40, 2**63, 10**30)
    shape = tuple(random.choice(sizes) for _ in range(random.randrange(5)))
    text = f"{{'descr': {kind!r}, 'fortran_order': True, 'shape': {shape}, }}\n"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    parts[name] = head + parts[name][random.choice((0, 128, len(parts[name]))) :]


def spoiled(document, random):
    """Put something hostile at a random place of a JSON document."""
    here = document
    while True:
        keys = list(here) if isinstance(here, dict) else range(len(here))
        if not keys:
            return
        key = random.choice(list(keys))
        if isinstance(here[key], dict | list) and here[key] and random.random() < 0.8:
            here = here[key]
            continue
        if random.random() < 0.2:
            del here[key]
        else:
            here[key] = random.choice(HOSTILE)
        return


def nested(random):
    n = random.choice((60, 100, 1000, 10**5))
    return ("[" * n + "]" * n).encode()


# --- archives -------------------------------------------------------------------------


def npy(x):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(x))
    return file.getvalue()


def value(data):
    """Read an array; one of items without bytes may be spoiled to any size."""
    x = np.lib.format.read_array(io.BytesIO(data))
    if x.size > 2**20:
        raise ValueError(x.shape)
    return x


def a_manifest(parts, random):
    """Spoil the manifest of an archive; sign it anew as often as not."""
    if "manifest.npy" not in parts:
        return
    try:
        manifest = json.loads(str(value(parts["manifest.npy"])))
    except (ValueError, EOFError, RecursionError):
        return
    if random.random() < 0.1:
        parts["manifest.npy"] = npy(nested(random).decode())
        return
    if not isinstance(manifest, dict):
        return
    spoiled(manifest, random)
    if random.random() < 0.5:
        sign(manifest, parts)
    parts["manifest.npy"] = npy(json.dumps(manifest).rstrip("\0"))


def an_array(parts, random):
    """Change values, dtype or shape of an array, and sign the archive anew."""
    name = random.choice([x for x in sorted(parts) if x != "manifest.npy"] or [""])
    try:
        x = value(parts[name])
        manifest = json.loads(str(value(parts["manifest.npy"])))
        x = random.choice(
            (
                lambda: x.astype(random.choice(("f2", "f4", "f8", "i1", "u8", "c8"))),
                lambda: x.reshape(-1),
                lambda: x[::-1],
                lambda: x.T,
                lambda: x[..., :0],
                lambda: x * random.choice((-1, 0, 1e300, 1e-300, np.inf, np.nan)),
                lambda: x[None],
            )
        )()
        parts[name] = npy(x)
        sign(manifest, parts)
        parts["manifest.npy"] = npy(json.dumps(manifest))
    except (ValueError, EOFError, KeyError, RecursionError, IndexError):
        return


def sign(manifest, parts):
    try:
        arrays = {x[:-4]: value(parts[x]) for x in parts if x != "manifest.npy"}
        manifest["digest"] = fingerprint(manifest, arrays)
    except (ValueError, EOFError, AttributeError):
        return


def packed(parts, random):
    """Zip the parts, now and then one of them twice."""
    file = io.BytesIO()
    kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
        if parts and random.random() < 0.05:
            name = random.choice(sorted(parts))
            archive.writestr(name, parts[name])
    return file.getvalue()


# --- stores ---------------------------------------------------------------------------


def no_file(parts, random):
    parts[random.choice(sorted(parts))] = random.choice(WORDS)


def a_document(parts, random):
    """Spoil the metadata of a group or array."""
    name = random.choice([x for x in sorted(parts) if x.endswith("zarr.json")])
    if random.random() < 0.1:
        parts[name] = nested(random)
        return
    try:
        document = json.loads(parts[name])
        spoiled(document, random)
        parts[name] = json.dumps(document).encode()
    except (ValueError, TypeError, RecursionError):
        return


ARCHIVES = [
    *(a_part, a_missing_part, a_new_part, exchanged_parts, a_header, a_manifest),
    *(an_array, None),
]
STORES = [a_part, a_missing_part, a_new_part, exchanged_parts, no_file, a_document]
