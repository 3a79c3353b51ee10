import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

import refspec
from refspec import __version__
from refspec.cli import terminal
from support.command import run


@pytest.mark.slow
def test_attribute_writes_table_json_and_picture(tmp_path):
    record, picture = tmp_path / "a.json", tmp_path / "a.png"
    words = ("--layer", "fc3", "--json", str(record), "--plot", str(picture))
    result = run("attribute", *words)
    assert result.exit_code == 0, result.output
    assert "outlier" in result.output
    assert picture.stat().st_size > 0
    data = json.loads(record.read_text())
    assert 0 < len(data["kinds"]) <= len(data["values"])


def test_spectrum_check_and_version():
    assert run("spectrum", "--of", "features", "--layer", "fc1").exit_code == 0
    assert "N = 400" in run("check").output
    assert __version__ in run("--version").output
    assert "errors of fc2: recomputed" in run("check").output


def test_hessian_side_by_side_with_the_fisher(tmp_path):
    record = tmp_path / "h.json"
    words = ("--of", "hessian", "--layer", "fc3", "--json", str(record))
    result = run("attribute", *words)
    assert result.exit_code == 0, result.output
    data = json.loads(record.read_text())
    total = [sum(x) for x in zip(*data["parts"].values(), strict=True)]
    pairs = zip(total, data["values"], strict=True)
    assert max(abs(a - b) for a, b in pairs) <= data["radius"]
    gaps = zip(data["values"], data["fisher"], strict=True)
    assert max(abs(a - b) for a, b in gaps) <= data["weyl"] + data["radius"]


@pytest.mark.slow
def test_kfac_writes_table_json_and_picture(tmp_path):
    record, picture = tmp_path / "k.json", tmp_path / "k.png"
    words = ("--layer", "fc3", "--json", str(record), "--plot", str(picture))
    result = run("kfac", *words)
    assert result.exit_code == 0, result.output
    lines = [x for x in result.output.splitlines() if not x.startswith("picture")]
    assert max(map(len, lines)) <= 80
    assert "closer than KFAC in log10 eigenvalues at every layer" in result.output
    assert picture.stat().st_size > 0
    found = json.loads(record.read_text())["layers"]["fc3"]
    assert found["log10_error"]["cfac"] < found["log10_error"]["kfac"]
    assert len(found["fisher"]) == len(found["kinds"]["kfac"]) == 90
    one, *_, every = found["nearest_products"]
    assert every < found["frobenius_error"]["cfac"]  # the best of as many terms
    assert every < one < found["frobenius_error"]["kfac"]
    assert len(found["nearest_products"]) == 10  # one a class
    assert "best 10" in result.output


def test_check_finds_a_changed_weight(tmp_path):
    s = refspec.datasets.digits_mlp()
    key = "fc2.weight" if "fc2.weight" in s.model.parameters else None
    assert key is not None
    changed = dict(s.model.parameters)
    changed[key] = changed[key] * 1.001
    model = refspec.ModelSection(s.model.inputs, s.model.operations, changed)
    other = refspec.Snapshot(
        s.layers, s.probabilities, s.labels, s.sample_weights, {}, model
    )
    path = refspec.save(other, tmp_path / "changed.npz")
    result = run("check", str(path))
    assert result.exit_code == 1
    assert "DISAGREES" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("attribute", "--layer", "nope"),
        ("attribute", "--of", "errors"),
        ("attribute", "absent.npz"),
        ("attribute", "--json", "/no/such/folder/a.json"),
        ("spectrum", "--backend", "abacus"),
        ("kfac", "--layer", "nope"),
        ("kfac", "--setting", "both"),
    ],
)
def test_wrong_use_exits_with_two(words):
    assert run(*words).exit_code == 2


def test_wrong_data_exit_with_one(tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"not a zip")
    result = run("check", str(bad))
    assert result.exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        ("attribute", "--layer", "fc3", "--top", "120"),
        ("attribute", "--layer", "fc3", "--of", "errors"),
        ("attribute", "--layer", "fc3", "--of", "hessian", "--top", "170"),
        ("kfac", "--layer", "fc3"),
    ],
)
def test_tables_fit_eighty_columns(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(*words).output.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\N{HORIZONTAL ELLIPSIS}" in x for x in lines)
    rows = [x.split() for x in lines if x.split()[:1] in (["1"], ["100"])]
    for row in rows:  # a folded number would leave a row with other cells
        assert (
            row[-1] in ("outlier", "bump", "bulk", "residual", "yes")
            or row[-1] in "ob."
        )


def test_the_hessian_has_a_picture(tmp_path):
    picture = tmp_path / "h.png"
    words = ("--of", "hessian", "--layer", "fc3", "--plot", str(picture))
    assert run("attribute", *words).exit_code == 0
    assert picture.stat().st_size > 0


SENTENCE = (
    "covers 170 of 2,778 parameters (1 of 3 modules); left out: fc1 2,080, fc2 528"
)


@pytest.fixture
def part(tmp_path):
    """An export of the last layer, without its network and with the reason."""
    s = refspec.datasets.digits_mlp()
    said = {
        "layers": ["fc3"],
        "left_out": {"fc1": 2080, "fc2": 528},
        "without_network": "module 'lstm' (LSTM) is no operation",
    }
    less = replace(s, layers=s.layers[2:], model=None, provenance=s.provenance | said)
    return refspec.save(less, tmp_path / "part.npz")


def test_every_command_says_what_it_covers(part, tmp_path):
    record = tmp_path / "x.json"
    shown = run("check", part).output
    assert SENTENCE in shown
    assert "'lstm' (LSTM)" in shown
    for command in ("spectrum", "attribute"):
        result = run(command, part, "--json", record)
        assert result.exit_code == 0, result.output
        assert SENTENCE in result.output
        assert "all layers" not in result.output
        found = json.loads(record.read_text())
        assert found["of"] == "Fisher information, 170 of 2,778 parameters"
        assert found["coverage"]["sentence"] == SENTENCE
        assert found["coverage"]["left_out"] == {"fc1": 2080, "fc2": 528}
    whole = run("spectrum").output
    assert "Fisher information, all layers\ncovers all 2,778 parameters" in whole
    for command in ("kfac", "claims", "verify"):
        result = run(
            command,
            part,
            "--json",
            record,
            *{"claims": ("--only", "F"), "verify": ("--only", "L1")}.get(command, ()),
        )
        assert SENTENCE in result.output, result.output
        assert SENTENCE in record.read_text()
    layer = run("spectrum", "--layer", "fc3").output
    assert SENTENCE in layer


def test_the_hessian_of_an_export_without_a_network_says_why(part):
    result = run("attribute", part, "--of", "hessian", columns=400)
    assert result.exit_code == 2
    assert "module 'lstm' (LSTM) is no operation" in result.output
    assert "by differentiation" in result.output
    with pytest.raises(ValueError, match="because module 'lstm'"):
        refspec.models.of_snapshot(refspec.load(part))


def test_top_computes_the_largest_alone(tmp_path):
    """The same values and kinds as of all, within radii; JSON says what it holds."""
    read = {}
    for name, words in {"all": [], "top": ["--top", 4]}.items():
        path = tmp_path / f"{name}.json"
        made = run("attribute", "--layer", "fc3", *words, "--json", path)
        assert made.exit_code == 0
        read[name] = json.loads(path.read_text())
    some, every = read["top"], read["all"]
    assert (some["complete"], every["complete"]) == (False, True)
    assert len(some["values"]) == 4 < len(every["values"])
    radius = some["radius"] + every["radius"]
    pairs = zip(some["values"], every["values"], strict=False)
    assert max(abs(a - b) for a, b in pairs) <= radius
    assert some["kinds"] == every["kinds"][:4]
    made = run("spectrum", "--layer", "fc3", "--top", 4)
    assert "the other 166 are none larger" in made.output
    assert run("spectrum", "--layer", "fc3", "--top", 171).exit_code == 1


def test_a_plan_is_said_without_the_data_read(tmp_path):
    path, record = tmp_path / "wine.npz", tmp_path / "plan.json"
    refspec.save(refspec.datasets.wine_sklearn(), path)
    result = run("plan", str(path), "--what", "report", "--json", str(record))
    assert result.exit_code == 0, result.output
    assert "at most" in result.output
    assert "features, coefs_0" in " ".join(result.output.split())
    told = json.loads(record.read_text())
    assert told["fits"]
    assert told["bytes"] < told["memory"]
    assert "of 2 GB" in run("plan", "--memory", "2GB").output
    assert "does not fit; one chunk" in run("plan", "--memory", "1kB").output


@pytest.mark.parametrize(
    "command", ["attribute", "spectrum", "kfac", "verify", "claims", "report"]
)
def test_what_does_not_fit_is_refused_before_work(command, tmp_path):
    page = ("-o", str(tmp_path / "page.html")) if command == "report" else ()
    result = run(command, "--memory", "60MB", *page)
    assert result.exit_code == 1
    assert "must fit into 60 MB of memory, got a plan of" in result.output
    assert "--layer fc3 fits" in result.output
    assert not (tmp_path / "page.html").exists()


def test_a_size_is_read_as_one_writes_it():
    for size, told in {"500MB": "500 MB", "2GiB": "2.15 GB", "1e9": None}.items():
        result = run("plan", "--memory", size)
        assert (told is None) == (result.exit_code == 2)
        assert (told or "--memory must be a size") in result.output


def test_a_bar_follows_the_plan(monkeypatch):
    seen = io.StringIO()
    monkeypatch.setattr(terminal, "errors", Console(file=seen, force_terminal=True))
    assert run("spectrum", "--layer", "fc3").exit_code == 0
    assert "spectrum: parameters" in seen.getvalue()
    assert "factorising" in seen.getvalue()


def test_check_does_not_compare_a_network_with_itself(tmp_path):
    s = refspec.datasets.wine_sklearn()
    path = refspec.save(s, tmp_path / "few.npz", recomputed=True)
    result = run("check", str(path), "--json", str(tmp_path / "few.json"))
    assert result.exit_code == 0
    assert "probabilities: recomputed" in result.output
    assert "features of" not in result.output
    record = json.loads((tmp_path / "few.json").read_text())
    assert list(record["recomputed"]) == ["probabilities"]
    assert record["not_in_the_file"] == [x.name for x in s.layers]
