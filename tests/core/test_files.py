"""Whole or not at all: failures, interrupts, kills, races, links and devices."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from refspec import files

FILE, FOLDER = "file", "folder"


def put(path, text, kind=FILE):
    """Write a file, or a folder of two files, in two steps."""
    if kind == FILE:
        with files.atomic(path) as file:
            file.write(text.encode())
            file.write(text.encode())
        return
    with files.atomic_folder(path, "mark") as folder:
        (folder / "mark").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "more").write_text(text)


def got(path):
    if path.is_file():
        text = path.read_text()
        assert text[: len(text) // 2] == text[len(text) // 2 :]
        return text[: len(text) // 2]
    text = (path / "mark").read_text()
    assert (path / "deep" / "more").read_text() == text
    return text


@pytest.fixture(params=[FILE, FOLDER])
def kind(request):
    return request.param


def test_what_is_there_is_replaced(tmp_path, kind):
    path = tmp_path / "x"
    for text in ("first", "second"):
        put(path, text, kind)
        assert got(path) == text
        assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_a_failure_leaves_what_was_there(tmp_path, kind, error):
    path = tmp_path / "x"
    open_ = {FILE: files.atomic, FOLDER: lambda x: files.atomic_folder(x, "mark")}[kind]
    for expected in ([], ["x"]):
        with pytest.raises(error), open_(path):
            raise error
        assert os.listdir(tmp_path) == expected
        put(path, "old", kind)
    assert got(path) == "old"


def test_a_new_file_has_the_rights_of_the_umask_a_replaced_one_its_own(tmp_path, kind):
    path, before = tmp_path / "x", os.umask(0o027)
    try:
        put(path, "first", kind)
        full = 0o666 if kind == FILE else 0o777
        assert stat.S_IMODE(path.stat().st_mode) == full & ~0o027
        path.chmod(0o700)
        put(path, "second", kind)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_link_stays_a_link(tmp_path, kind):
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to("far/x")  # leads to nothing yet
    for text in ("first", "second"):
        put(link, text, kind)
        assert link.is_symlink()
        assert got(tmp_path / "far" / "x") == text
    assert sorted(os.listdir(tmp_path)) == ["far", "link"]
    assert os.listdir(tmp_path / "far") == ["x"]


def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "file").write_text("")
    there = sorted(os.listdir(tmp_path))
    for path, message in [
        (tmp_path / "pipe", "got a pipe"),
        (tmp_path / "folder", "got a folder"),
        (tmp_path / "loop", "symbolic links"),
        (tmp_path / "null", "got a device"),
        (os.devnull, "got a device"),
        (tmp_path / "none" / "x", "to write in, got none"),
        (tmp_path / "file" / "x", "to write in, got none"),
        (tmp_path / ("x" * 300), "name too long"),
        ("", "expected a name"),
        ("a\0b", "expected a name"),
        (b"", "expected a name"),
    ]:
        for call in (put, lambda x, _: files.expect_writable(x)):
            with pytest.raises(OSError, match=f"(?i){message}"):
                call(path, "text")
    assert sorted(os.listdir(tmp_path)) == there
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_what_is_no_such_folder_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("")
    (tmp_path / "file").write_text("")
    for name, message in [("mine", "one without"), ("file", "got a file")]:
        with pytest.raises(OSError, match=message):
            files.expect_writable(tmp_path / name, "mark")
        with pytest.raises(OSError, match=message):
            put(tmp_path / name, "text", FOLDER)
    assert sorted(os.listdir(tmp_path)) == ["file", "mine"]


def test_a_read_only_file_is_refused(tmp_path, monkeypatch):
    put(tmp_path / "x", "old")
    monkeypatch.setattr(files.os, "access", lambda *_: False)  # root may all
    with pytest.raises(PermissionError, match="read-only"):
        put(tmp_path / "x", "new")
    assert got(tmp_path / "x") == "old"


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path):
    files.expect_writable(tmp_path / "new")
    files.expect_writable(tmp_path / "new", "mark")
    assert os.listdir(tmp_path) == []


def test_four_writers_of_one_name_leave_one_whole(tmp_path, kind):
    path, failed, seen = tmp_path / "x", [], []
    start, done = threading.Barrier(5), threading.Event()
    put(path, "0", kind)

    def write(k):
        start.wait()
        for _ in range(20):
            try:
                put(path, str(k) * 999, kind)
            except OSError as error:  # pragma: no cover
                failed.append(error)

    def look():
        start.wait()
        while not done.is_set():
            seen.append(path.exists())

    threads = [threading.Thread(target=write, args=(k,)) for k in range(1, 5)]
    looking = threading.Thread(target=look)
    for x in (*threads, looking):
        x.start()
    for x in threads:
        x.join()
    done.set()
    looking.join()
    assert not failed
    assert all(seen)
    assert set(got(path)) <= set("1234")
    assert os.listdir(tmp_path) == ["x"]


def test_the_first_of_four_writers_needs_nothing_there(tmp_path, kind):
    start = threading.Barrier(4)

    def write(k):
        start.wait()
        put(tmp_path / "x", str(k), kind)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for x in threads:
        x.start()
    for x in threads:
        x.join()
    assert got(tmp_path / "x") in list("0123")
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("refused", [errno.ENOSYS, errno.EINVAL, None])
def test_without_exchange_the_old_folder_steps_aside(tmp_path, monkeypatch, refused):
    class Library:
        """A libc that has no renameat2, or one that a file system refuses."""

        if refused is not None:

            @staticmethod
            def renameat2(*_):
                return -1

    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: Library)
    monkeypatch.setattr(files.ctypes, "get_errno", lambda: refused)
    put(tmp_path / "x", "first", FOLDER)
    put(tmp_path / "x", "second", FOLDER)
    assert got(tmp_path / "x") == "second"
    real, calls = os.rename, []

    def rename(a, b):
        calls.append(b)
        if len(calls) == 2:
            raise PermissionError(errno.EACCES, "no")
        real(a, b)

    monkeypatch.setattr(files.os, "rename", rename)
    with pytest.raises(PermissionError):
        put(tmp_path / "x", "third", FOLDER)
    assert got(tmp_path / "x") == "second"
    assert os.listdir(tmp_path) == ["x"]


def test_an_exchange_that_fails_is_told(tmp_path, monkeypatch):
    class Library:
        @staticmethod
        def renameat2(*_):
            return -1

    put(tmp_path / "x", "first", FOLDER)
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: Library)
    monkeypatch.setattr(files.ctypes, "get_errno", lambda: errno.EACCES)
    with pytest.raises(PermissionError):
        put(tmp_path / "x", "second", FOLDER)
    assert got(tmp_path / "x") == "first"
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_that_cannot_be_synced_is_written_all_the_same(tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(number, "no")

    monkeypatch.setattr(files.os, "fsync", fsync)
    number = errno.EINVAL
    put(tmp_path / "x", "text", FOLDER)
    number = errno.EIO
    with pytest.raises(OSError, match="no"):
        put(tmp_path / "y", "text", FOLDER)
    assert os.listdir(tmp_path) == ["x"]


KILLED = """
import sys
from refspec import files
print("ready", flush=True)
if sys.argv[1] == "file":
    while True:
        with files.atomic(sys.argv[2]) as file:
            file.write(b"x" * 2**20)
            file.write(b"x" * 2**20)
while True:
    with files.atomic_folder(sys.argv[2], "mark") as folder:
        (folder / "mark").write_text("new")
        (folder / "deep").mkdir()
        (folder / "deep" / "more").write_text("new")
"""


@pytest.mark.slow
def test_what_a_killed_writer_leaves_is_swept_by_the_next(tmp_path, kind):
    path = tmp_path / "x"
    for k in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, kind, str(path)], stdout=subprocess.PIPE
        )
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.01 + 0.03 * k)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        left = [x for x in os.listdir(tmp_path) if x != "x"]
        assert len(left) <= 1
        if path.exists():
            got(path)
        put(path, "mine", kind)
        assert got(path) == "mine"
        assert os.listdir(tmp_path) == ["x"]


def test_a_temporary_in_use_is_not_swept(tmp_path):
    with files.atomic(tmp_path / "slow") as file:
        file.write(b"a")
        put(tmp_path / "fast", "text")
        assert len(os.listdir(tmp_path)) == 2
        file.write(b"b")
    assert (tmp_path / "slow").read_bytes() == b"ab"
    assert sorted(os.listdir(tmp_path)) == ["fast", "slow"]
