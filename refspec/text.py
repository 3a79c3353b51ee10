"""Other people's text, safe to show: names in an export are somebody else's.

Nothing in them may move a cursor, set a colour, forge a line, turn the writing
direction, be read as markup or stop an encoder.
"""

from __future__ import annotations


def visible(text: object, longest: int = 40) -> str:
    r"""Return text without anything that is obeyed, a long one cut in its middle.

    >>> visible("fc\x1b[31m"), visible("a" * 30 + "b" * 30, 12)
    ('fc\\x1b[31m', 'aaaaaa…bbbbb')
    """
    short = cut(str(text), longest)  # first: a gigabyte must not be escaped
    return cut("".join(c if c.isprintable() else repr(c)[1:-1] for c in short), longest)


def cut(text: str, longest: int) -> str:
    """Replace the middle of a long text by an ellipsis."""
    if len(text) <= longest:
        return text
    return text[: longest // 2] + "…" + text[len(text) - (longest - 1) // 2 :]


def listed(names: list[str], shown: int = 12) -> str:
    """Return names in one line, the first few of many."""
    rest = len(names) - shown
    text = ", ".join(visible(x) for x in names[:shown])
    return f"{text} and {rest} more" if rest > 0 else text
