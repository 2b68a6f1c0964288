"""How values are shown to people: the filters of the templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from backdrop.domain.times import format_instant
from backdrop.domain.words import counted

_MOST_CHARACTERS = 80


def ago(then: datetime, now: datetime) -> str:
    """How long ago, roughly."""
    return f"{lasting(max(now - then, timedelta()))} ago"


def lasting(span: timedelta) -> str:
    """A span of time in its largest unit of which it has at least two, or in seconds."""
    seconds = int(span.total_seconds())
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (seconds == size):
            return counted(seconds // size, name)
    return counted(seconds, "second")


def day_and_time(instant: datetime) -> Markup:
    """An instant in UTC, for people and for programs."""
    words = instant.strftime("%-d %B %Y, %H:%M UTC")
    return Markup("<time datetime='{}'>{}</time>").format(format_instant(instant), words)


def cell(value: Any) -> Markup:
    """A value of a record as a table shows it; what can't be seen is made to be."""
    if value is None:
        return Markup("<span class='kind'>null</span>")
    if isinstance(value, bool):
        return escape("true" if value else "false")
    if isinstance(value, datetime):
        return escape(format_instant(value))
    return escape(visible(str(value)))


def visible(text: str) -> str:
    """The text without what would hide, turn or break it, and not too long."""
    return visible_all(text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…")


def visible_all(text: str) -> str:
    """The whole text so."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def sentence(message: str) -> str:
    """The message as it stands alone: with a capital, unless a name of a field or such is first."""
    return message[0].upper() + message[1:] if _is_word_first(message) else message


_is_word_first = re.compile(r"[a-z']+[ :,]").match


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def kinds(found: Mapping[str, int]) -> str:
    """`12 whole numbers, 3 texts`, or the one kind that there is."""
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(
        counted(count, kind, kind if kind == "true or false" else "")
        for kind, count in found.items()
    )


def is_mixed(found: Mapping[str, int]) -> bool:
    """Whether values of several kinds stand there. Numbers are of one, whole or not."""
    return len({"number" if kind == "whole number" else kind for kind in found}) > 1


FILTERS: Mapping[str, Callable[..., Any]] = {
    "ago": ago,
    "cell": cell,
    "counted": counted,
    "day_and_time": day_and_time,
    "is_mixed": is_mixed,
    "is_number": is_number,
    "kinds": kinds,
    "lasting": lasting,
    "sentence": sentence,
    "visible": visible,
    "visible_all": visible_all,
}
