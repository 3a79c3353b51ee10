"""What is a refusal, a sentence to whoever called, and what is an accident of ours."""

from __future__ import annotations

import dis

_STATED = "_stated_by_refspec"


def stated(error: Exception) -> bool:
    """Tell a refusal, raised by a `raise` of refspec's, from an accident.

    A ValueError of NumPy's that comes through a line of ours is no sentence to the user
    but our fault: the instruction that raised it tells, or who saw that elsewhere.
    """
    if getattr(error, _STATED, False):
        return True
    end = error.__traceback__
    while end is not None and end.tb_next is not None:
        end = end.tb_next
    if end is None or not end.tb_frame.f_globals["__name__"].startswith("refspec."):
        return False
    opcode = end.tb_frame.f_code.co_code[end.tb_lasti]
    return dis.opname[opcode] == "RAISE_VARARGS"


def sent_on(error: Exception, more: str) -> Exception:
    """Return a refusal as it goes to another process, where its traceback is lost."""
    error.args = (f"{error}{more}",)
    setattr(error, _STATED, True)
    return error
