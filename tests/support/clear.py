"""What a clear refusal is: the one checker of every table of bad calls.

A table is `bad_calls/test_bad_<package>.py`, imports
``from support.clear import assert_clear`` and has a row for each call.
"""

import re
import traceback
from pathlib import Path

import pytest

import refspec
from refspec.export.errors import ExportError

PACKAGE = Path(refspec.__file__).parent
EXPECTED = ("must", "expected", "give", "needs", "takes")


def assert_says(call, message, ends=()):
    """Assert that `call` is refused in these words, which begin what is said.

    They are all of it, unless they end in one of `ends`, where numbers follow.
    """
    with pytest.raises((ValueError, TypeError)) as refused:
        call()
    assert str(refused.value).startswith(message)
    if not message.endswith(tuple(ends)):
        assert str(refused.value) == message


def assert_clear(call, *, names):
    """Assert that `call` is refused in a sentence, by refspec itself.

    The error is a ValueError or a TypeError (ExportError is a ValueError); it is raised
    in refspec, not in a library below; its message has one of `names` (a string or
    several) as words of their own, says what was expected, what arrived and what to do.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    try:
        answer = call()
    except (ValueError, TypeError) as error:
        refusal = error
    except Exception as error:
        raise AssertionError(f"ended deep inside: {error!r}") from error
    else:
        raise AssertionError(f"accepted, answered {str(answer)[:200]}")
    message = str(refusal)
    where = traceback.extract_tb(refusal.__traceback__)[-1]
    assert PACKAGE in Path(where.filename).parents, f"raised in {where}: {message}"
    words = (rf"(?<!\w){re.escape(name)}s?(?!\w)" for name in names)
    assert any(re.search(word, message) for word in words), f"no {names}: {message}"
    assert any(word in message for word in EXPECTED), f"expects nothing: {message}"
    assert "got" in message, f"does not say what arrived: {message}"
    if isinstance(refusal, ExportError):  # of a file: nothing the reader could do
        return
    advice = message.rpartition("; ")[2]
    assert advice != message, f"does not say what to do: {message}"
    assert advice != "None", f"advises nothing: {message}"
    assert re.search("[a-z]", advice), f"shouts: {message}"
