"""Reducing the values of a field: the sums, sets and extremes that all engines agree on.

An engine reduces the records of each group; reduced cells can be merged with those of another
period of the same group, and are finished into what stands in the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any, TypeAlias

from backdrop.domain.query import Method, Reduction
from backdrop.domain.values import INT64_MAX, INT64_MIN, Value, order_key, shown

Cell: TypeAlias = Any
"""A reduced value: a list (set), a number or None (sum), an int (count), a value or None."""


def add(numbers: Iterable[int | float]) -> int | float | None:
    """The sum: exact while all are ints; else the ints' exact sum, as a float, and the floats'.

    None of no number. A sum past the largest float is the largest float.
    """
    whole, broken, some = 0, [], False
    for number in numbers:
        some = True
        if isinstance(number, int):
            whole += number
        else:
            broken.append(number)
    if not broken:
        return whole if some else None
    return finite(float(whole) + finite(_fsum(broken)))


def _fsum(numbers: Sequence[float]) -> float:
    try:
        return math.fsum(numbers)
    except OverflowError:  # on the way, though the sum itself may not be past the largest float
        total = sum(map(Fraction, numbers))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def finite(number: float) -> float:
    """`number`, an infinity as the largest float, and minus zero as zero."""
    return max(-_LARGEST, min(_LARGEST, number)) + 0.0


_LARGEST = float.fromhex("0x1.fffffffffffffp+1023")


def distinct(values: Iterable[Value]) -> list[Value]:
    """The different values that are not null, sorted, as `shown`."""
    return [
        value for _, value in sorted({order_key(value): shown(value) for value in values}.items())
    ]


def least(values: Iterable[Value]) -> Value:
    """The first in order, an int before an equal float, None of no value."""
    return min(values, key=_int_first, default=None)


def greatest(values: Iterable[Value]) -> Value:
    """The last in order, an int before an equal float, None of no value."""
    return max(values, key=_int_last, default=None)


def _int_first(value: Value) -> tuple[Any, ...]:
    return (*order_key(value), isinstance(value, float))


def _int_last(value: Value) -> tuple[Any, ...]:
    return (*order_key(value), not isinstance(value, float))


def _present(cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell is not None]


MERGE: Mapping[Reduction, Callable[[list[Cell]], Cell]] = {
    "set": lambda cells: list(chain.from_iterable(cells)),
    "sum": lambda cells: add(_present(cells)),
    "count": sum,
    "min": lambda cells: least(_present(cells)),
    "max": lambda cells: greatest(_present(cells)),
}
"""Of each reduction: the cells of one group in several periods -> the cell over all of them."""


def _whole_or_nearest(total: int | float | None) -> int | float | None:
    if isinstance(total, int) and not INT64_MIN <= total <= INT64_MAX:
        return finite(float(total))
    return total


def _mean(total: int | float | None, count: int) -> float | None:
    return None if total is None else total / count


def _unchanged(column: Sequence[Cell]) -> Sequence[Cell]:
    return column


FINISH: Mapping[Method, Callable[..., Sequence[Cell]]] = {
    "set": lambda sets: [distinct(values) for values in sets],
    "sum": lambda sums: [_whole_or_nearest(total) for total in sums],
    "mean": lambda sums, counts: [_mean(*pair) for pair in zip(sums, counts, strict=True)],
    "count": _unchanged,
    "min": _unchanged,
    "max": _unchanged,
}
"""Of each method: the columns of its reductions -> the column of the answer."""
