"""How a command ends: its code, its sentence, and nothing half-written."""

import json
import os
import resource
import subprocess
import sys
import warnings

import numpy as np
import pytest

import refspec
from refspec.cli.outputs import finite
from refspec.text import visible
from support.command import run
from support.snapshots import sampled

RUN = [sys.executable, "-m", "refspec"]

NAMES = (
    "[/]",
    "[bold red]x",
    "a\x1b[31mb\x1b]0;owned\x07",
    "\ud800lone",
    "line\nforged: good",
    "\u202egnp.exe",
    "x" * 5000,
    ":smile:",
    "$\\frac$",
)


def process(*words, **options):
    return subprocess.run(
        [*RUN, *map(str, words)], check=False, stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """An export whose names are somebody else's text."""
    s = sampled(3, (4, 5, 3), [(4, 3)], equal=True)
    (one,) = s.layers
    layers = tuple(refspec.Layer(n, one.features, one.errors) for n in NAMES)
    made = refspec.Snapshot(layers, s.probabilities, s.labels, s.sample_weights, {})
    return refspec.save(made, tmp_path_factory.mktemp("hostile") / "h.npz")


@pytest.fixture(scope="module", params=["features", "errors"])
def dead(request, tmp_path_factory):
    """A network one layer of which gives nothing: ReLUs that never fire."""
    s = sampled(3, (4, 5, 3), [(4, 3)], equal=True)
    (one,) = s.layers
    arrays = {"features": one.features, "errors": one.errors}
    arrays[request.param] = np.zeros_like(arrays[request.param])
    layers = (one, refspec.Layer("dead", **arrays))
    made = refspec.Snapshot(layers, s.probabilities, s.labels, s.sample_weights, {})
    return refspec.save(made, tmp_path_factory.mktemp("dead") / "d.npz")


def test_visible_text_obeys_nothing_and_is_short():
    for name in NAMES:
        shown = visible(name)
        assert shown.isprintable()
        assert len(shown) <= 40
    assert visible("fc1.weight") == "fc1.weight"
    assert visible("x" * 41) == "x" * 20 + "\N{HORIZONTAL ELLIPSIS}" + "x" * 19


@pytest.mark.parametrize(
    "words",
    [
        "check H",
        "attribute H --top 2 --layer [/]",
        "attribute H --layer nope",
        "attribute H --of errors",
        "spectrum H --layer [/] --top 1",
        "kfac H --top 1",
        "verify H --only L1,L3,K6",
        "predict H",
    ],
)
def test_no_name_moves_the_terminal(words, hostile):
    result = run(*(w.replace("H", str(hostile)) for w in words.split()))
    # the last layer of these data gives no logits, and no law knows them
    expected = {1} if words == "predict H" else {0, 2}
    assert result.exit_code in expected, result.output
    assert "a fault of refspec" not in result.output
    assert all(line.isprintable() for line in result.output.split("\n"))
    assert "\nforged" not in result.output


@pytest.mark.slow
def test_hostile_names_are_drawn_and_kept_in_json(hostile, tmp_path):
    picture, record = tmp_path / "k.png", tmp_path / "k.json"
    assert run("kfac", hostile, "--plot", picture, "--json", record).exit_code == 0
    assert picture.stat().st_size > 0
    assert [*json.loads(record.read_text())["layers"]] == [*NAMES]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "attribute D --layer dead --json - --plot P",
        "attribute D --layer dead --of features",
        "attribute D --layer dead --of errors",
        "kfac D --json - --plot P",
        "report D -o R --no-verify",
        "spectrum D --layer dead",
    ],
)
def test_a_dead_layer_is_no_fault(words, dead, tmp_path):
    places = {"D": dead, "P": tmp_path / "p.png", "R": tmp_path / "r.html"}
    result = run(*(places.get(w, w) for w in words.split()))
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_json_and_pictures_go_to_standard_output_alone():
    result = run("attribute", "--layer", "fc3", "--json", "-")
    assert json.loads(result.stdout)["schema"] == "refspec.spectrum/1"
    assert "share of the trace" in result.stderr
    assert run("attribute", "--layer", "fc3", "--plot", "-").stdout_bytes[1:4] == b"PNG"
    result = run("report", "-o", "-", "--no-verify", "--no-per-layer", "--dense", "0")
    assert result.stdout.startswith("<!doctype html>")
    assert result.stdout.endswith("</html>\n")
    assert "share of the trace" in run("attribute", "--layer", "fc3").stdout


def test_a_bound_that_does_not_exist_is_null():
    assert finite(float("inf")) is None
    assert finite(np.asarray([1.0, np.nan])) == [1.0, None]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "more memory than there is"),
        (OSError(28, "No space left on device"), 2, "free some, or choose another"),
        (PermissionError(13, "Permission denied", "a.npz"), 2, "a.npz: Permission"),
        (BrokenPipeError(), 2, ""),
        (ZeroDivisionError("x"), 3, "a fault of refspec: ZeroDivisionError: x"),
        (ValueError("not raised by refspec"), 3, "a fault of refspec: ValueError"),
        (RecursionError("deep"), 3, "Please report it"),
    ],
)
def test_every_exception_has_its_code(error, code, sentence, monkeypatch):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(refspec.attribution, "attribute", broken)
    result = run("attribute", "--layer", "fc3")
    assert result.exit_code == code
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert bool(result.output) == bool(sentence)
    shown = run("--debug", "attribute", "--layer", "fc3")
    if code in (1, 2, 3):
        assert "Traceback" in shown.output


def test_what_numpy_raises_in_our_line_is_our_fault(monkeypatch):
    """A refusal comes from a raise of refspec's; all else is an accident."""

    def broken(*_, **__):
        return np.zeros(0).reshape(4, 0, -1)

    broken = type(broken)(broken.__code__, {**globals(), "__name__": "refspec.x"})
    monkeypatch.setattr(refspec.attribution, "attribute", broken)
    assert run("attribute", "--layer", "fc3").exit_code == 3


@pytest.mark.slow
def test_a_full_place_is_wrong_use_and_keeps_what_was_there(tmp_path):
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    for words in (
        ("synth", "--classes", "3", "-o", tmp_path / "w.npz"),
        ("attribute", "--layer", "fc3", "--plot", tmp_path / "a.png"),
        ("attribute", "--layer", "fc3", "--json", tmp_path / "a.json"),
    ):
        words[-1].write_text("old")
        done = process(*words, preexec_fn=small, stdout=subprocess.DEVNULL)
        assert done.returncode == 2, done.stderr
        assert str(words[-1]) in done.stderr
        assert words[-1].read_text() == "old"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["a.json", "a.png", "w.npz"]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_standard_output_is_a_place_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        done = process("check", stdout=full)
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_news():
    read, write = os.pipe()
    os.close(read)
    done = process("check", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.slow
def test_an_interrupt_leaves_a_word_and_no_file(tmp_path):
    page = tmp_path / "a.html"
    # a signal to itself while the page is written, whatever the machine's speed; a
    # shell's background job, and what it starts, would not hear it
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from refspec import report\n"
        "from refspec.cli import main\n"
        "right = report.encoded\n"
        "def encoded(page):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return right(page)\n"
        "report.encoded = encoded\n"
        f"page = {str(page)!r}\n"
        "words = ['report', '--no-per-layer', '--no-verify', '-o', page]\n"
        "sys.argv = ['refspec', *words]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, stderr=subprocess.PIPE, text=True
    )
    said = done.stderr
    assert done.returncode == 130
    assert said.strip() == "interrupted"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_module_runs_and_calls_itself_refspec():
    done = process("--help", stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert "Usage: refspec [OPTIONS] COMMAND" in done.stdout
    done = process("nothing", stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert "Usage: refspec" in done.stderr


def test_without_typer_the_extra_is_named():
    code = "import sys; sys.modules['typer'] = None; import refspec.cli as c; c.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install 'refspec[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("features", "dtype", "code"),
    [
        (5e-309, "float64", 0),
        (1e-200, "float64", 0),
        (0.0, "float64", 0),
        (2e-39, "float32", 0),
        (1e30, "float32", 0),  # files are read in double precision
        (1e300, "float64", 1),
    ],
)
@pytest.mark.parametrize("command", ["attribute", "spectrum", "report"])
def test_sizes_that_do_not_fit_are_refused_and_others_answered(
    tmp_path, command, features, dtype, code
):
    s = sampled(counts=(2, 1), sides=((3, 2),), dtype=dtype)
    x = s.layers[0]
    layer = refspec.Layer("fc", (features * x.features).astype(dtype), x.errors)
    s = refspec.snapshot([layer], s.labels, probabilities=s.probabilities)
    refspec.save(s, tmp_path / "sized.npz")
    how = ["-o", tmp_path / "r.html"] if command == "report" else ["--json", "-"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run(command, tmp_path / "sized.npz", *how)
    assert found.exit_code == code
    assert "NaN" not in found.output
    assert "Infinity" not in found.output
    assert ("divide the features or errors by 2^" in found.output) == (code == 1)
