"""All theorems, collected from the modules of their pages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from refspec import checks
from refspec.theorems.registry import KINDS, QUESTIONS, Theorem

#: Pages of theory/: `refspec.theorems.<page>` holds the checks of theory/<page>.md.
PAGES = (
    "attribution",
    "certificates",
    "collapse",
    "conditional",
    "curvature",
    "expectations",
    "hessian",
    "kronecker",
    "kronecker_designs",
    "kronecker_nearest",
    "kronecker_spectra",
    "levels",
    "logistic",
    "preconditioners",
    "random_matrix",
    "regressions",
    "rounding",
    "spectra",
    "weights",
    "worlds",
)

#: Which command asks which question.
RUNNERS = {"data": "verify", "code": "selftest"}

_HEAD = """# Theory

Every formal statement of refspec: hypotheses, statement, full proof, source, what fails
without the hypotheses, the code it is about, its check, and its test. What is tested is
also changed by as little as a check says that it sees, and the check has to fail: the
flaws of tests/support/flaws.
Start with [levels.md](levels.md): the one idea is that averaging is an orthogonal
projection of the sample index space. The check of `kronecker.md#K9` is
`refspec.theorems.kronecker.K9`. Ids are never renumbered. This page is made by
`python -m refspec.theorems`.

Two questions are asked apart, and the last column says which one a statement answers.

- `refspec verify FILE` asks about the *data*. A statement is asked there if a file that
  loads can fail it, since it compares what an export states more than once: errors with
  probabilities, labels with the loss, all of it with the network. Or if it is an
  inequality between spectra, or needs a hypothesis on them, that says more on one
  network than on another. No verdict is the same for two unrelated networks, and each
  of seven gross corruptions is seen on every embedded one:
  [corruptions.md](corruptions.md).
- `refspec selftest` asks about the *code*: statements that are true of whatever numbers
  are put in, of numbers drawn from a known law, or of arithmetic. Where one fails,
  refspec is wrong. `refspec verify --only ID FILE` runs one of them on a file.

*Identity*: both sides equal, apart from rounding. *Inequality*: true, apart from
rounding. *Statistical*: fails with probability at most 1e-9. *Asymptotic*: an error
falls at a stated rate. *Observation*: seen, not proved. *Lemma*: a fact of arithmetic
or algebra, with nothing to check on data.
"""


def all_theorems() -> tuple[Theorem, ...]:
    """Return every theorem, sorted by id.

    Examples
    --------
    >>> ids = [x.id for x in all_theorems()]
    >>> len(ids) == len(set(ids))
    True
    """
    modules = [import_module(f"refspec.theorems.{page}") for page in PAGES]
    found = [x for page in modules for x in vars(page).values()]
    return tuple(sorted((x for x in found if isinstance(x, Theorem)), key=_order))


def asked(question: str) -> tuple[Theorem, ...]:
    """Return the theorems that answer a question, sorted by id.

    Parameters
    ----------
    question : str
        `data`: what a file can get wrong, or a network can lack. `code`: what is true
        of whatever numbers are put in.

    Returns
    -------
    tuple of Theorem

    Raises
    ------
    TypeError, ValueError
        If there is no such question.

    Examples
    --------
    >>> [x.id for x in asked("data")][-4:]
    ['L2', 'L3', 'L4', 'L8']
    """
    checks.expect_choice("question", question, QUESTIONS)
    return tuple(x for x in all_theorems() if x.question == question)


def find(ids: Iterable[str]) -> tuple[Theorem, ...]:
    """Return the theorems of some ids, sorted.

    Parameters
    ----------
    ids : iterable of str
        Different ones, e.g. ``["L1", "K9"]``.

    Returns
    -------
    tuple of Theorem

    Raises
    ------
    TypeError
        If ids are no strings, or one string.
    ValueError
        If there is no theorem of that id, or an id comes twice.

    Examples
    --------
    >>> [x.title for x in find(["L8"])]
    ['Errors at the logits']
    """
    known = {x.id: x for x in all_theorems()}
    wanted = checks.expect_names("ids", ids, known)
    return tuple(x for id, x in known.items() if id in wanted)


def of_module(module: ModuleType) -> tuple[Theorem, ...]:
    """Return the theorems that a module of one's own holds, sorted by id.

    Parameters
    ----------
    module : module

    Returns
    -------
    tuple of Theorem

    Raises
    ------
    TypeError
        If it is no module.
    ValueError
        If it holds none, or one whose id refspec or another of them has.

    Examples
    --------
    >>> of_module(ModuleType("mine"))
    Traceback (most recent call last):
        ...
    ValueError: module must hold theorems, got none in mine; declare a check by one of \
refspec.theorems.identity, inequality, ...
    """
    checks.expect_type("module", module, ModuleType, "import yours first")
    found = {id(x): x for x in vars(module).values() if isinstance(x, Theorem)}
    if not found:
        raise ValueError(
            f"module must hold theorems, got none in {module.__name__}; declare a "
            "check by one of refspec.theorems.identity, inequality, ..."
        )
    own = sorted(found.values(), key=_order)
    taken = {x.id for x in all_theorems()}
    ids = [x.id for x in own]
    wrong = sorted({x for x in ids if x in taken or ids.count(x) > 1})
    if wrong:
        raise ValueError(
            f"ids of one's own theorems must be new, got {', '.join(wrong)}; rename "
            "them"
        )
    return tuple(own)


def markdown() -> str:
    """Return theory/README.md: how to read the pages, and the table of all theorems."""
    theorems = all_theorems()
    pages = sorted({x.page for x in theorems})
    data = sum(x.question == "data" for x in theorems)
    checked = sum(x.kind != "lemma" for x in theorems)
    kinds = ", ".join(
        f"{sum(x.kind == kind for x in theorems)} of kind {kind}"
        for kind in KINDS
        if any(x.kind == kind for x in theorems)
    )
    lines = [_HEAD, f"{len(theorems)} statements on {len(pages)} pages: {kinds}.", ""]
    lines += [
        f"`refspec verify` runs {data}, `refspec selftest` {checked - data}.",
        "",
    ]
    lines += ["| id | title | statement | kind | run by |", "|---|---|---|---|---|"]
    for x in theorems:
        statement = x.statement.replace("|", "\\|")
        runner = "" if x.kind == "lemma" else RUNNERS[x.question]
        place = f"[{x.id}]({x.page}#{x.id})"
        cells = (place, x.title, f"`` {statement} ``", x.kind, runner)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _order(theorem: Theorem) -> tuple[str, int]:
    """Sort by letter, then by number."""
    letter, number = re.fullmatch(r"(.*?)(\d*)", theorem.id).groups()  # type: ignore[union-attr]
    return letter, int(number or 0)
