"""What is published leads somewhere: every path of the README, the project's URLs."""

import configparser
import re

import pytest

from release import addressed

URL, SITE = "https://example.org/refspec", "https://docs.example.org"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    addressed.copy(folder, URL + "/", SITE)
    return folder


def test_every_path_of_the_readme_becomes_an_address(place):
    before = (addressed.ROOT / "README.md").read_text()
    after = (place / "README.md").read_text()
    relative = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")
    assert relative.findall(before)  # the effect: there are some
    assert not relative.findall(after)
    tag = f"v{addressed.version()}"
    for kind, path in re.findall(rf"{URL}/(blob|raw)/{tag}/([^)#\s]+)", after):
        assert (addressed.ROOT / path).is_file(), path
        assert (kind == "raw") == path.endswith(".png")


def test_the_metadata_says_where(place):
    found = configparser.ConfigParser()
    found.read(place / "setup.cfg")
    assert found["metadata"]["url"] == URL
    said = dict(
        x.split(" = ") for x in found["metadata"]["project_urls"].split("\n")[1:]
    )
    assert list(said) == ["Source", "Changelog", "Documentation"]
    assert said["Documentation"] == SITE
    assert f"repository-code: {URL}\n" in (place / "CITATION.cff").read_text()


def test_without_an_address_nothing_is_changed(tmp_path, capsys):
    addressed.copy(tmp_path)
    for name in ("README.md", "setup.cfg", "CITATION.cff"):
        assert (tmp_path / name).read_text() == (addressed.ROOT / name).read_text()
    assert "stay relative" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["github.com/x/y", "http://x.org/y", "https://"])
def test_what_is_no_address_is_refused(tmp_path, wrong):
    with pytest.raises(SystemExit, match="https://"):
        addressed.copy(tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()
