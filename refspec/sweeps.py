"""A claim swept over a parameter, with Monte-Carlo intervals: a theorist's bench.

A claim is a function of a value and a source of randomness that returns a number, or
several by name. Every draw gives the same randomness to every value, so that what two
values have in common (the data, say, under clean and noisy labels) cancels in their
differences, draw by draw. Intervals are Student's, of means over draws; a rate is the
slope of a straight line through logarithms, its interval from the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import scipy.stats

from refspec import checks
from refspec.results import Result, View

_Value = TypeVar("_Value")
Numbers = float | Mapping[str, float]

#: What a claim that returns one number is called.
ONE = "claim"


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with the interval that holds it, at a confidence.

    Parameters
    ----------
    value, lower, upper : float
    confidence : float
    """

    value: float
    lower: float
    upper: float
    confidence: float

    def __contains__(self, x: float) -> bool:
        """Whether the interval holds a number."""
        return self.lower <= x <= self.upper

    def __str__(self) -> str:
        """Write it as one writes it."""
        percent = f"{100 * self.confidence:g} %"
        return f"{self.value:.4g} [{self.lower:.4g}, {self.upper:.4g}] ({percent})"


@dataclass(frozen=True, slots=True, eq=False)
class Sweep(Result):
    """A claim at several values of a parameter, drawn again and again.

    Parameters
    ----------
    name : str, of the parameter
    values : tuple, length V
    draws : dict of str to array, shape (V, n)
        What the claim returned, by name; column k has the same randomness in all rows.
    confidence : float, of every interval
    """

    name: str
    values: tuple[Any, ...]
    draws: dict[str, np.ndarray]
    confidence: float

    def __repr__(self) -> str:
        """Write a line a value, with the interval of each number."""
        lines = [f"Sweep over {self.name}, {self._count} draws"]
        for k, value in enumerate(self.values):
            told = ", ".join(f"{n} {self._interval(k, n)}" for n in self.draws)
            lines.append(f"  {value!s:>8}  {told}")
        return "\n".join(lines)

    def interval(self, value: Any, quantity: str | None = None) -> Interval:
        """Return the mean over draws at one value, with Student's interval.

        Parameters
        ----------
        value : one of `values`
        quantity : str, optional
            One of `draws`; the only one if not given.

        Returns
        -------
        Interval

        Raises
        ------
        ValueError
            If there is no such value, or no such quantity.
        """
        return self._interval(self._place(value), quantity)

    def against(self, value: Any) -> Sweep:
        """Subtract what the same draws gave at one value: differences in pairs.

        Parameters
        ----------
        value : one of `values`

        Returns
        -------
        Sweep
            Of the other values.

        Raises
        ------
        ValueError
            If it is none of `values`.
        """
        at = self._place(value)
        kept = [k for k in range(len(self.values)) if k != at]
        less = {n: (x - x[at])[kept] for n, x in self.draws.items()}
        others = tuple(self.values[k] for k in kept)
        return Sweep(self.name, others, less, self.confidence)

    def between(self, first: str, second: str) -> Sweep:
        """Subtract one number of each draw from another: first - second.

        Parameters
        ----------
        first, second : str, of `draws`

        Returns
        -------
        Sweep
        """
        less = {f"{first} - {second}": self._of(first) - self._of(second)}
        return Sweep(self.name, self.values, less, self.confidence)

    def rate(
        self, quantity: str | None = None, *, confidence: float | None = None
    ) -> Interval:
        """Return the slope of log mean over log value, by least squares.

        Parameters
        ----------
        quantity : str, optional
            One of `draws`; the only one if not given.
        confidence : float, optional
            The sweep's if not given.

        Returns
        -------
        Interval

        Raises
        ------
        ValueError
            If there are fewer than two values, or a value or a mean is not positive.

        Notes
        -----
        The slope is the sum of c_j log(mean_j); to first order in the draws it moves
        with the mean over k of the sum of c_j y_jk / mean_j, draw by draw, so that
        what the values have in common is in its interval too.
        """
        y = self._of(quantity)
        mean = np.mean(y, axis=1)
        numbers = self.values if are_numbers(self.values) else [0.0]
        x = np.asarray(numbers, dtype=np.float64)
        if len(x) < 2 or not (np.all(x > 0) and np.all(mean > 0)):
            raise ValueError(
                "a rate needs at least two values, and values and means > 0 (of their "
                f"logarithms it is the slope), got values {self.values} and means from "
                f"{np.min(mean, initial=math.inf):.3g}; sweep over others"
            )
        away = np.log(x) - np.mean(np.log(x))
        weights = away / np.sum(away * away)
        each = weights @ (y / mean[:, None])
        sure = self.confidence
        if confidence is not None:
            sure = checks.expect_probability("confidence", confidence, ends=False)
        return _interval(float(weights @ np.log(mean)), each, sure)

    def document(self) -> dict[str, Any]:
        """Return it as JSON holds it: values, means, ends of intervals, draws.

        Returns
        -------
        dict
        """
        every = {}
        for n, x in self.draws.items():
            ends = [self._interval(k, n) for k in range(len(self.values))]
            every[n] = {
                "mean": [e.value for e in ends],
                "lower": [e.lower for e in ends],
                "upper": [e.upper for e in ends],
                "draws": x.tolist(),
            }
        return {
            "parameter": self.name,
            "values": [v.item() if hasattr(v, "item") else v for v in self.values],
            "confidence": self.confidence,
            "quantities": every,
        }

    def view(self) -> View:
        """Give means and ends of intervals by value."""
        made = self.document()["quantities"]
        columns = {
            n: {part: x[part] for part in ("mean", "lower", "upper")}
            for n, x in made.items()
        }
        facts = {"draws": self._count, "confidence": self.confidence}
        return View(self.name, self.values, columns, facts=facts)

    @property
    def _count(self) -> int:
        """Number of draws."""
        return int(next(iter(self.draws.values())).shape[1])

    def _place(self, value: Any) -> int:
        """Return which of the values one is."""
        if value not in self.values:
            raise ValueError(
                f"value must be one that was swept over, got {value!r} and values "
                f"{self.values}; sweep over it too"
            )
        return self.values.index(value)

    def _interval(self, k: int, quantity: str | None) -> Interval:
        """Return the interval at the k-th value."""
        row = self._of(quantity)[k]
        return _interval(float(np.mean(row)), row, self.confidence)

    def _of(self, quantity: str | None) -> np.ndarray:
        """Return the draws of a quantity, of the only one for None."""
        if quantity is None and len(self.draws) == 1:
            return next(iter(self.draws.values()))
        checks.expect_choice("quantity", quantity, tuple(self.draws))
        return self.draws[str(quantity)]


def sweep(
    claim: Callable[[_Value, np.random.Generator], Numbers],
    name: str,
    values: Sequence[_Value],
    *,
    draws: int = 20,
    seed: int = 0,
    confidence: float = 0.95,
) -> Sweep:
    """Draw a claim at several values of a parameter, in pairs.

    Parameters
    ----------
    claim : callable
        Of a value and a `numpy.random.Generator`; returns a number, or a dict of them
        by name. All that is random in it comes from the generator.
    name : str, of the parameter
    values : sequence, length V, different ones
    draws : int, at least 2
        Draw k has the same generator, of the seed and k, at every value.
    seed : int, at least 0
    confidence : float, in (0, 1)

    Returns
    -------
    Sweep

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or the claim returns something that is no
        finite number, or other names at other values.

    Notes
    -----
    Cost V draws times that of the claim. Intervals are Student's: exact for normal
    draws, right for many of any law with a variance.

    Examples
    --------
    The error of a mean falls like a root of the sample size:

    >>> def error(n, rng):
    ...     return abs(float(np.mean(rng.standard_normal(n))))
    >>> found = sweep(error, "n", [10, 100, 1000], draws=200)
    >>> -0.5 in found.rate()
    True
    """
    if not callable(claim):
        raise TypeError(
            f"claim must be a function of a value and a generator, got {claim!r}; "
            "write `def claim(value, rng): return number`"
        )
    checks.expect_type("name", name, str, "give the parameter's name")
    checks.expect_type("values", values, Sequence, "give a list of values")
    every = tuple(values)
    if not every or any(v in every[:k] for k, v in enumerate(every)):
        raise ValueError(
            f"values must be different, at least one, got {every}; draws say how often"
        )
    checks.expect_size("draws", draws, least=2)
    checks.expect_size("seed", seed)
    confidence = checks.expect_probability("confidence", confidence, ends=False)
    found: dict[str, np.ndarray] = {}
    for k in range(draws):
        for i, value in enumerate(every):
            numbers = _numbers(claim(value, np.random.default_rng([seed, k])), value)
            if not found:
                found = {n: np.empty((len(every), draws)) for n in numbers}
            if numbers.keys() != found.keys():
                raise ValueError(
                    f"claim must return the same names everywhere, got {[*numbers]} at "
                    f"{name} = {value!r} and {[*found]} before; give all of them"
                )
            for n, x in numbers.items():
                found[n][i, k] = x
    return Sweep(name, every, found, confidence)


def are_numbers(values: Sequence[Any]) -> bool:
    """Tell whether all values of a parameter are numbers, so that they have an axis."""
    return all(isinstance(v, int | float | np.number) for v in values)


def _numbers(answer: Any, value: Any) -> dict[str, float]:
    """Return what a claim answered, by name."""
    given = answer if isinstance(answer, Mapping) else {ONE: answer}
    numbers = {}
    for n, x in given.items():
        numbers[str(n)] = checks.expect_number(f"{n} at {value!r}", x)
    if not numbers:
        raise ValueError(
            f"claim must return a number or a dict of them, got {answer!r} at "
            f"{value!r}; return what is to be measured"
        )
    return numbers


def _interval(value: float, each: np.ndarray, confidence: float) -> Interval:
    """Return Student's interval of a mean around a value."""
    n = len(each)
    quantile = float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1))
    half = quantile * float(np.std(each, ddof=1)) / n**0.5
    return Interval(value, value - half, value + half, confidence)
