"""Wrong command lines: each ends with its code and one clear sentence, nothing else.

HERE stands for a fresh folder that holds `good.npz`, `world.npz` (planted, two layers),
`bad.npz` (no container), `cut.npz` (half of a good one), `folder/` and `note.txt`.
"""

import os
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import refspec
from refspec.cli.app import app
from refspec.synthetic import Recipe

USE, DATA = 2, 1
LAYERS = "one of fc1, fc2, fc3"

BAD = [
    # no such command or option
    ("", USE, "Usage: refspec"),
    ("atribute", USE, "No such command 'atribute'"),
    ("--colour", USE, "No such option: --colour"),
    ("attribute --fast", USE, "No such option: --fast"),
    ("attribute HERE/good.npz HERE/world.npz", USE, "unexpected extra argument"),
    ("attribute --json", USE, "'--json' requires an argument"),
    # values of options
    ("attribute --top 0", USE, "--top"),
    ("attribute --top 99999", DATA, "top must lie in 1..min(N K, P)"),
    ("attribute --memory 1", DATA, "arrays that need at most 1 bytes of memory"),
    ("attribute --memory much", USE, "--memory must be a size such as 500MB"),
    ("attribute --top 5 --memory 9MB", DATA, "must fit into 9 MB of memory"),
    ("spectrum --memory 60MB", DATA, "--top 20 takes"),
    ("verify --memory 60MB", DATA, "verify must fit into 60 MB of memory"),
    ("claims --memory 40MB --top 3", DATA, "claims must fit into 40 MB of memory"),
    ("report --memory 60MB -o HERE/a.html", DATA, "report must fit into 60 MB"),
    ("synth -o HERE/w.npz --memory 1MB", USE, "a recipe must fit into 1000000 bytes"),
    ("predict HERE/world.npz --layer layer1 --memory 1kB", DATA, "at most 1000 bytes"),
    ("verify --top 0", USE, "--top"),
    ("density --of hessian", USE, "see refspec spectrum --of hessian"),
    ("density --probes 0", USE, "--probes"),
    ("density --memory 1MB", DATA, "arrays that need at most 1000000 bytes"),
    ("plan HERE/nothing.npz", USE, "no such file"),
    ("plan HERE/net.py:network --what kfac", DATA, "hessian or kfac of a moment"),
    ("plan HERE/net.py:network --layer x", USE, "--layer must name parameters"),
    ("plan HERE/net.py:nothing", USE, "must hold a function 'nothing'"),
    ("plan --layer fc9", DATA, "'fc9'"),
    ("attribute --top -3", USE, "--top"),
    ("attribute --top 2.5", USE, "--top"),
    ("attribute --top many", USE, "--top"),
    ("attribute --of weights", USE, "--of"),
    ("attribute --of hessian --certify", USE, "spectrum --of hessian --certify"),
    ("attribute --of hessian --shards 2", USE, "leave one of the two out"),
    *(
        (f"{command} --leave-out {x}", USE, f"--leave-out must be {expected}")
        for command in ("attribute", "spectrum", "plan")
        for x, expected in {
            **dict.fromkeys(("1", "1.5", "-0.1"), "a part of the trace"),
            "nan": "finite",
            "a_part": "a real number, got 'a_part'",
        }.items()
    ),
    ("spectrum --of hessian --workers 2", USE, "leave one of the two out"),
    ("spectrum --of hessian --layer fc3 --top 171", USE, "1..P = 1..170, got 171"),
    ("spectrum --of hessian --layer nope", USE, f"--layer must be {LAYERS}"),
    ("kfac --top 0", USE, "--top"),
    ("attribute --of ''", USE, "--of"),
    ("spectrum --backend abacus", USE, "--backend"),
    ("spectrum --backend cupy", USE, "cupy"),
    ("kfac --setting both", USE, "--setting must be expand or reduce, got 'both'"),
    ("kfac --setting ''", USE, "--setting must be expand or reduce"),
    ("report --dense -1", USE, "--dense"),
    ("report --dense 1e9", USE, "--dense"),
    ("verify --only Z9", USE, "--only"),
    ("verify --only ''", USE, "--only"),
    ("verify --only L1,,L2", USE, "--only"),
    ("verify --deep", USE, "No such option: --deep"),
    ("selftest --only Z9", USE, "--only"),
    ("selftest HERE/good.npz", USE, "unexpected extra argument"),
    ("selftest --json HERE", USE, "--json"),
    # layers
    ("attribute --layer nope", USE, f"--layer must be {LAYERS}; got 'nope'"),
    ("attribute --layer ''", USE, f"--layer must be {LAYERS}; got ''"),
    ("attribute --layer [/]", USE, f"--layer must be {LAYERS}; got '[/]'"),
    ("attribute --of errors", USE, f"--of errors needs --layer, {LAYERS}"),
    ("attribute --of hessian --layer nope", USE, f"--layer must be {LAYERS}"),
    (
        "attribute HERE/world.npz --of hessian",
        USE,
        "needs an export that holds its network",
    ),
    ("spectrum --layer nope", USE, f"--layer must be {LAYERS}"),
    ("kfac --layer nope", USE, f"--layer must be {LAYERS}"),
    ("predict HERE/world.npz --of features", USE, "give --layer, one of layer1"),
    ("predict HERE/world.npz --layer fc1", USE, "must be one of layer1, layer2"),
    ("predict HERE/world.npz --layer layer1 --of hessian", USE, "--of"),
    # what is read
    ("attribute HERE/absent.npz", USE, "no such file: "),
    ("check ''", DATA, "expected"),
    ("check HERE/absent.zarr", USE, "no such file: "),
    ("kfac HERE/absent.npz", USE, "no such file: "),
    ("report HERE/absent.npz", USE, "no such file: "),
    ("verify HERE/good.npz HERE/absent.npz", USE, "no such file: "),
    ("predict HERE/absent.npz", USE, "no such file: "),
    ("predict", USE, "Missing argument"),
    ("check HERE/bad.npz", DATA, "bad.npz"),
    ("check HERE/cut.npz", DATA, "cut.npz"),
    ("check HERE/note.txt", DATA, "got text (.txt); give the file that an exporter"),
    ("check HERE/folder", DATA, "got a folder; there is none in it"),
    ("check HERE", DATA, "got a folder; give one in it: bad.npz, cut.npz, good.npz"),
    ("attribute HERE/data.csv", DATA, "got a table of data (.csv); an export is of a"),
    ("report HERE/model.pt", DATA, "got weights of a network (.pt); load them into"),
    ("claims HERE/model.pth", DATA, "refspec.torch.export(model, loader"),
    ("verify HERE/model.pkl", DATA, "got a pickle, which runs code when it is read"),
    ("kfac HERE/model.onnx", DATA, "refspec.exporters.onnx.export("),
    ("plan HERE/x.npy", DATA, "got one array (.npy); refspec.snapshot("),
    ("attribute HERE/bad.npz", DATA, "bad.npz"),
    ("spectrum HERE/bad.npz", DATA, "bad.npz"),
    ("kfac HERE/bad.npz", DATA, "bad.npz"),
    ("verify HERE/bad.npz", DATA, "bad.npz"),
    ("predict HERE/bad.npz", DATA, "bad.npz"),
    ("report HERE/bad.npz -o HERE/a.html", DATA, "bad.npz"),
    # what is written
    ("attribute --json ''", USE, "expected a file, got a folder"),
    ("attribute --json HERE/folder", USE, "expected a file, got a folder"),
    ("attribute --json HERE/no/a.json", USE, "expected a folder to write in"),
    ("attribute --json HERE/note.txt/a.json", USE, "expected a folder to write in"),
    ("attribute --json /dev/null", USE, "expected a file, got a device"),
    ("attribute --json HERE/pipe", USE, "expected a file, got a pipe"),
    ("attribute --json /proc/a.json", USE, "--json /proc/a.json"),
    ("attribute HERE/good.npz --json HERE/good.npz", USE, "must not be what is read"),
    ("attribute HERE/good.npz --json HERE/link", USE, "must not be what is read"),
    ("attribute --json HERE/a --plot HERE/../HERE/a", USE, "must end in one of"),
    ("attribute --json HERE/a.png --plot HERE/folder/../a.png", USE, "two places"),
    ("kfac --json - --plot -", USE, "--json and --plot must be two places"),
    ("attribute --plot HERE/a.abc", USE, "must end in one of"),
    ("attribute --plot HERE/png", USE, "must end in one of"),
    ("attribute --plot ''", USE, "must end in one of"),
    ("attribute --of hessian --plot HERE/a.abc", USE, "must end in one of"),
    ("kfac --plot HERE/no/a.png", USE, "expected a folder to write in"),
    ("predict HERE/world.npz --layer layer1 --plot a.abc", USE, "must end in one of"),
    ("verify HERE/good.npz --json HERE/good.npz", USE, "must not be what is read"),
    ("spectrum --json HERE/folder", USE, "expected a file, got a folder"),
    ("report -o HERE/folder", USE, "expected a file, got a folder"),
    ("report -o ''", USE, "expected a file, got a folder"),
    ("report -o HERE/no/a.html", USE, "expected a folder to write in"),
    ("report HERE/good.npz -o HERE/good.npz", USE, "must not be what is read"),
    ("synth", USE, "Missing option"),
    ("synth -o ''", USE, "--output must end in .npz or .zarr"),
    ("synth -o HERE/w.npz --preset none", USE, "--preset"),
    ("synth -o HERE/w.txt", USE, "--output must end in .npz or .zarr"),
    ("synth -o /dev/full", USE, "--output must end in .npz or .zarr"),
    ("synth -o HERE/no/w.npz", USE, "expected a folder to write in"),
    ("synth -o HERE/w.npz --json HERE/w.npz", USE, "two places"),
    ("synth -o HERE/w.npz --json HERE/folder", USE, "expected a file, got a folder"),
    ("synth -o HERE/w.npz --per-class x", USE, "--per-class"),
    ("synth -o HERE/w.npz --noise nan", USE, "must be finite"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    good = refspec.save(refspec.datasets.digits_mlp(), folder / "good.npz")
    small = Recipe(classes=3, dim=4, per_class=5, gains=(1.0, 2.0))
    refspec.save(small.plant().snapshot, folder / "world.npz")
    (folder / "bad.npz").write_bytes(b"not a zip")
    (folder / "cut.npz").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (folder / "note.txt").write_text("a note")
    (folder / "net.py").write_text(
        "import refspec\n"
        "def network(): return refspec.fisher(refspec.datasets.wine_sklearn())\n"
    )
    for name in (
        "data.csv",
        "model.pt",
        "model.pth",
        "model.pkl",
        "model.onnx",
        "x.npy",
    ):
        (folder / name).write_text("something else")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("good.npz")
    os.mkfifo(folder / "pipe")
    return folder


def listing(folder):
    return {x.name: x.lstat().st_mtime_ns for x in folder.rglob("*")}


@pytest.mark.parametrize(("line", "code", "sentence"), BAD, ids=lambda x: str(x)[:50])
def test_wrong_command_lines_end_in_a_sentence(line, code, sentence, here, monkeypatch):
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = listing(here)
    words = [w.strip("'").replace("HERE", str(here)) for w in line.split()]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "400"})
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert sentence in result.output
    assert "Traceback" not in result.output
    said = [x for x in result.output.splitlines() if x.startswith("error: ")]
    assert len(said) == (1 if line else 0)
    assert all(len(x) < 2001 for x in said)
    assert listing(here) == before


def test_the_table_is_long_enough():
    assert len({line for line, *_ in BAD}) == len(BAD) >= 60


def test_numbers_that_json_lacks_are_refused(here, monkeypatch):
    """No NaN leaves, whatever a computation gives."""
    whole = refspec.attribution.attribute

    def spoiled(*words, **options):
        found = whole(*words, **options)
        found.lower[0] = np.nan
        return found

    monkeypatch.setattr(refspec.attribution, "attribute", spoiled)
    words = ["attribute", "--layer", "fc3", "--json", str(here / "nan.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == DATA
    assert "expected finite numbers" in result.output
    assert not (here / "nan.json").exists()
