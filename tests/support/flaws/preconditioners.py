"""Flaws of theory/preconditioners.md."""

from dataclasses import replace

from support.flaws import Flaw, after, field, larger
from support.flaws.kronecker import CLASSES, layer

_errors, _values = field("errors", larger), field("values", larger)


def alone():
    """Two classes have one sample each, so that every other sample leaves one out."""
    return layer((1, 1, 4))


def forgotten(right, size):
    """Forget a part of a class that a batch has no sample of."""

    def running_average(old, batch, decay):
        made, gone = right(old, batch, decay), (batch.frequencies == 0)[:, None, None]
        return replace(made, errors=made.errors * (1 - size * gone))

    return running_average


FLAWS = (
    Flaw(
        "K10",
        "an inverse too large",
        "refspec.kronecker.damping:factored_tikhonov",
        after(_values),
        layer,
    ),
    Flaw(
        "K11",
        "averages too large",
        f"{CLASSES}:running_average",
        after(_errors),
        layer,
    ),
    Flaw(
        "K11",
        "frequencies too large",
        f"{CLASSES}:running_average",
        after(field("frequencies", larger)),
        layer,
    ),
    Flaw(
        "K11",
        "an absent class forgotten",
        f"{CLASSES}:running_average",
        forgotten,
        alone,
    ),
    Flaw(
        "K12",
        "a solution too large",
        "refspec.kronecker.damping:damped_solve",
        after(field("value", larger)),
        layer,
    ),
)
REASONS: dict[str, str] = {}
