"""theory/corruptions.md: each gross corruption is seen by the statements it names."""

from pathlib import Path

import pytest

from refspec import datasets
from refspec.theorems import find
from support.corruptions import column, corruptions, failing, markdown, subjects

PAGE = Path(__file__).resolve().parents[2] / "theory" / "corruptions.md"


def table():
    """The columns of the page: subject to corruption to ids."""
    rows = [
        [x.strip() for x in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ")
    ]
    names = rows[0][1:]
    return {
        name: {row[0]: row[k].removeprefix("-") for row in rows[1:]}
        for k, name in enumerate(names, start=1)
    }


def test_the_page_is_what_its_program_writes():
    assert PAGE.read_text() == markdown(table())


def test_every_corruption_of_every_network_is_seen():
    seen = table()
    assert list(seen) == list(subjects())
    for name in datasets.names():
        assert list(seen[name]) == [x for x, _ in corruptions(subjects()[name]())]
        for ids in seen[name].values():
            assert find(ids.split(", "))


@pytest.mark.slow
@pytest.mark.parametrize("name", subjects())
def test_each_corruption_is_seen_by_the_statements_that_the_page_names(name):
    snapshot = subjects()[name]()
    assert failing(snapshot) == []
    assert column(snapshot) == table()[name]
