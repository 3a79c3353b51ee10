"""Where proofs are: every place is on its page, and addresses are those of a site."""

import pathlib

import pytest

from refspec.theorems import all_theorems, inequality
from refspec.theorems.places import address, expect_site, published

ROOT = pathlib.Path(__file__).parents[2]


@inequality("Mine", "0 <= 1")
def U1(_study):
    yield 0.0, 1.0, 1.0, "nothing"


def test_every_place_is_a_heading_of_its_page():
    for x in all_theorems():
        page, _, id = x.place.partition("#")
        assert f"\n## {id}. " in (ROOT / page).read_text("utf-8"), x.place
    assert U1.place == ""


def test_a_site_is_an_address_or_a_folder_that_was_built(tmp_path):
    place = "theory/levels.md#L1"
    web = expect_site("https://example.org/a b/")
    assert address(web, place) == "https://example.org/a%20b/theory/levels.html#L1"
    assert address("", place) == address(web, "") == ""
    for wrong in ("javascript:alert(1)", "", str(tmp_path), "ftp://example.org"):
        with pytest.raises(ValueError, match="the site must be"):
            expect_site(wrong)
    (tmp_path / "theory").mkdir()
    (tmp_path / "theory" / "README.html").write_text("")
    assert expect_site(str(tmp_path)) == tmp_path.resolve().as_uri()
    assert expect_site(tmp_path.as_uri()) == tmp_path.as_uri()


def test_the_package_states_an_address_of_the_web_or_none():
    stated = published()
    assert stated == "" or expect_site(stated) == stated
