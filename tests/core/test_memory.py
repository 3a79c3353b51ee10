"""What memory there is, and what one says that may be taken."""

import os
import resource

from refspec import memory


def test_what_was_said_holds_inside_alone():
    assert memory.said() is None
    with memory.within(2**20):
        assert memory.limit() == memory.said() == 2**20
        assert memory.budget(2**10, 64) == 2**10
        assert memory.budget(2**30, 64) == 2**14
        with memory.within(None):
            assert memory.limit() > 2**20
    assert memory.budget(2**30, 64) == 2**30


def test_what_is_free_is_told_by_the_system(monkeypatch):
    assert 0 < memory.free() < 2**60
    texts = {
        "meminfo": "MemFree: 1 kB\nMemAvailable:    300 kB\n",
        "memory.max": "200000\n",
        "memory.current": "150000\n",
        "memory.stat": "anon 5\ninactive_file 50000\n",
        "statm": "10 5\n",
    }

    class Fake:
        def __init__(self, path):
            self.name = os.path.basename(path)

        def __truediv__(self, name):
            return Fake(name)

        def read_text(self, **_):
            if self.name not in texts:
                raise FileNotFoundError
            return texts[self.name]

    monkeypatch.setattr(memory, "Path", Fake)
    assert memory.free() == 100000  # what the control group leaves
    monkeypatch.setattr(resource, "getrlimit", lambda _: (90000 + 10 * 4096, -1))
    monkeypatch.setattr(memory, "_page", lambda: 4096)
    assert memory.free() == 90000  # what the address space leaves
    monkeypatch.undo()
    monkeypatch.setattr(memory, "Path", Fake)
    texts["memory.max"] = "max\n"
    assert memory.free() == 300 * 1024
    texts.clear()
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.free() == whole // 2

    def without(_):
        raise ValueError

    monkeypatch.setattr(memory.os, "sysconf", without)
    assert memory.free() == 2**32
