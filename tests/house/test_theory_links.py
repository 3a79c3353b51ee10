"""theory/ <-> registry <-> checks <-> code <-> tests: every link, both ways."""

import ast
import functools
import importlib
import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

from refspec.theorems import all_theorems
from refspec.theorems.catalogue import markdown

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "Hypotheses",
    "Statement",
    "Proof",
    "Source",
    "What fails without the hypotheses",
    "Code",
    "Check",
    "Test",
)
THEOREMS = {x.id: x for x in all_theorems()}


def entries():
    """Every entry of every page: id, page, text."""
    found = []
    for page in sorted((ROOT / "theory").glob("*.md")):
        if page.name in ("README.md", "claims.md"):  # neither states theorems
            continue
        for text in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
            id = re.match(r"([A-Z]\d+)\. \S", text)
            assert id, f"{page.name}: heading must be '## ID. Title': {text[:60]!r}"
            found.append((id[1], page.name, text))
    return found


ENTRIES = {id: (page, text) for id, page, text in entries()}


def test_ids_are_used_once():
    for ids in ([x.id for x in all_theorems()], [id for id, _, _ in entries()]):
        assert not [x for x, n in Counter(ids).items() if n > 1]


def test_pages_and_registry_have_the_same_entries():
    assert {id: page for id, (page, _) in ENTRIES.items()} == {
        x.id: x.page for x in THEOREMS.values()
    }


@pytest.mark.parametrize("id", ENTRIES)
def test_every_entry_has_its_title_and_all_parts_in_order(id):
    _, text = ENTRIES[id]
    assert text.startswith(f"{id}. {THEOREMS[id].title}\n")
    places = [text.find(f"**{part}") for part in PARTS]
    assert -1 not in places, [p for p, i in zip(PARTS, places, strict=True) if i < 0]
    assert places == sorted(places)


@pytest.mark.parametrize("id", THEOREMS)
def test_the_property_test_exists_is_marked_and_on_the_page(id):
    theorem = THEOREMS[id]
    file, _, function = theorem.test.partition("::")
    source = (ROOT / file).read_text()
    marked = rf'@pytest\.mark\.theorem\("{id}"\)\n(@.*\n|[^\n@]*\n)*?def {function}\('
    assert re.search(marked, source), f"no {function} marked {id} in {file}"
    assert function in ENTRIES[id][1], f"{theorem.page} must name {theorem.test}"


def test_every_mark_is_of_a_theorem():
    for file in (ROOT / "tests").rglob("test_*.py"):
        for id in re.findall(r'mark\.theorem\("(\w+)"\)', file.read_text()):
            assert id in THEOREMS, f"{file.name} marks {id}"


@pytest.mark.parametrize("id", ENTRIES)
def test_every_entry_has_the_anchor_that_docstrings_name(id):
    page, _ = ENTRIES[id]
    anchored = f'<a id="{id}"></a>\n\n## {id}. '
    assert anchored in (ROOT / "theory" / page).read_text()


def docstrings(*folders):
    """Every docstring: the file's name, the text."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for file in (f for x in folders for f in (ROOT / x).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            text = isinstance(node, kinds) and ast.get_docstring(node)
            if text:
                yield str(file.relative_to(ROOT)), text


def citations(text):
    """The (page, id) that a docstring names: `theory/levels.md#L1, #L2`."""
    page, found = None, []
    for name, id in re.findall(r"theory/(\w+\.md)|#([A-Z]\d+)\b", text):
        page = name or page
        found += [(page, id)] if id else []
    return found


def test_every_place_that_a_docstring_names_is_on_its_page():
    places = {(page, id) for id, (page, _) in ENTRIES.items()}
    cited = 0
    for file, text in docstrings("refspec", "demos"):
        for place in citations(text):
            assert place in places, f"{file} cites {place}"
            cited += 1
    assert cited > len(places)


def test_no_docstring_names_an_id_without_its_page():
    for file, text in docstrings("refspec", "demos"):
        for id in re.findall(r"(?<![#.\w`'\"])[A-Z]\d+\b", text):
            place = f"theory/{ENTRIES[id][0]}#{id}" if id in ENTRIES else None
            assert not place, f"{file} cites {id}: name {place}"


@pytest.mark.parametrize("id", ENTRIES)
def test_the_code_and_the_tests_that_a_page_names_exist(id):
    page, text = ENTRIES[id]
    for name in re.findall(r"`(refspec(?:\.\w+)+)", text):
        assert found(name) is not None, f"{page}, {id}: no {name}"
    for file, function in re.findall(r"(tests/[\w/]+\.py)::(\w+)", text):
        source = (ROOT / file).read_text()
        assert f"def {function}(" in source, f"{page}, {id}: no {file}::{function}"


def part(id, name):
    """A part of an entry, from its name to the next part."""
    _, text = ENTRIES[id]
    later = PARTS[PARTS.index(name) + 1 :]
    return text.split(f"**{name}", 1)[1].split(f"**{later[0]}" if later else "<a id")[0]


@pytest.mark.parametrize("id", ENTRIES)
def test_the_check_has_the_name_of_its_place(id):
    theorem, page = THEOREMS[id], ENTRIES[id][0]
    name = f"refspec.theorems.{page.removesuffix('.md')}.{id}"
    lemma = ", a lemma: nothing to check on data" if theorem.kind == "lemma" else ""
    assert part(id, "Check").startswith(f".** `{name}`{lemma}.")
    assert found(name) is theorem
    assert (theorem.comparisons is None) == bool(lemma)


@pytest.mark.parametrize("id", ENTRIES)
def test_the_code_that_an_entry_names_cites_it(id):
    names = re.findall(r"`(refspec(?:\.\w+)+)", part(id, "Code"))
    texts = [inspect.getdoc(found(name)) or "" for name in names]
    place = ENTRIES[id][0], id
    assert any(place in citations(text) for text in texts), f"{names} must cite {place}"


def found(name):
    """What a dotted name names, None if it cannot be imported."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            at = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(lambda x, y: getattr(x, y, None), parts[k:], at)
    return None


def test_the_table_of_all_theorems_is_current():
    table = (ROOT / "theory" / "README.md").read_text()
    assert table == markdown(), "python -m refspec.theorems > theory/README.md"
