"""Calendar periods in a time zone: which one holds an instant, where it begins, what follows.

A day is the instants that share a local date; a week (from Monday), month, quarter or year the
days that share theirs. So each begins with the first instant of its first local date, also where
midnight does not exist or comes twice, and a date that a zone skipped has no period. An hour is a
run of instants that share the local date, the local hour and the UTC offset. The end of a period
is the start of the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

FIRST_INSTANT = datetime.min.replace(tzinfo=UTC)
LAST_INSTANT = datetime.max.replace(tzinfo=UTC)

_UTC = ZoneInfo("UTC")
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


def _first_of_week(day: date) -> date:
    return date.fromordinal(max(1, day.toordinal() - day.weekday()))


def _first_of_month(day: date) -> date:
    return day.replace(day=1)


def _first_of_quarter(day: date) -> date:
    return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)


def _first_of_year(day: date) -> date:
    return day.replace(month=1, day=1)


def _same_day(day: date) -> date:
    return day


_first_dates: Mapping[str, Callable[[date], date]] = {
    "day": _same_day,
    "week": _first_of_week,
    "month": _first_of_month,
    "quarter": _first_of_quarter,
    "year": _first_of_year,
}
"""Of each period but the hour: local date -> the first date of the period that holds it."""

_months = {"month": 1, "quarter": 3, "year": 12}
_longest_days = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}

PERIOD_NAMES = ("hour", *_first_dates)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of instants in which a zone keeps one offset from UTC: `since` (inclusive) on."""

    since: datetime
    offset: timedelta


@dataclass(frozen=True, slots=True)
class Period:
    """One of `PERIOD_NAMES` in a zone. All instants, in and out, are aware UTC datetimes."""

    name: str
    zone: ZoneInfo = field(default=_UTC)

    @property
    def longest(self) -> timedelta:
        """No period of this name takes longer, in any zone: a date can come twice, but once."""
        return _HOUR if self.name == "hour" else timedelta(days=_longest_days[self.name] + 1)

    def start(self, instant: datetime) -> datetime:
        """The first instant of the period that holds `instant`."""
        if self.name == "hour":
            return self._hour_start(instant)
        return self.start_of_date(_first_dates[self.name](self._local_date(instant)))

    def next(self, start: datetime) -> datetime:
        """The start of the period after the one that begins at `start` (which is its end too).

        `LAST_INSTANT` where the calendar ends.
        """
        try:
            if self.name == "hour":
                return self._next_hour(start)
            first = self._local_date(start)
            return self.start_of_date(self._next_date(first), after=start)
        except OverflowError:
            return LAST_INSTANT

    def previous(self, start: datetime) -> datetime:
        """The start of the period before the one that begins at `start`."""
        if start == FIRST_INSTANT:
            return start
        return self.start(start - timedelta(microseconds=1))

    def shift(self, start: datetime, count: int) -> datetime:
        """The start of the period `count` periods after the one that begins at `start`.

        Before it, where `count` is negative. Raises OverflowError past the ends of the calendar.
        """
        if self.name != "hour":
            return self.start_of_date(self._shift_date(self._local_date(start), count))
        return self._shift_hours(start, count)

    def _shift_hours(self, start: datetime, count: int) -> datetime:
        """`shift` of hours, segment by segment: those of one are counted, not gone through."""
        # Changes of offset cut some hours, so the guess is wide enough for them on either side.
        slack = timedelta(days=3 + abs(count) // 1000)
        if count >= 0:
            first, end = start, min(LAST_INSTANT - _DAY, start + count * _HOUR + slack)
        else:
            first, end = max(FIRST_INSTANT, start + count * _HOUR - slack), start
        runs = segments(self.zone, self._hour_start(first), end)
        stops = [*(run.since for run in runs[1:]), end]
        hours = [
            -(-_local(stop, run) // _HOUR) - _local(run.since, run) // _HOUR
            for run, stop in zip(runs, stops, strict=True)
        ]
        left = count if count >= 0 else sum(hours) + count
        if left < 0:
            raise OverflowError
        for run, number in zip(runs, hours, strict=True):
            if left < number:
                local = (_local(run.since, run) // _HOUR + left) * _HOUR
                return FIRST_INSTANT + (local - run.offset) if left else run.since
            left -= number
        raise OverflowError

    def _shift_date(self, day: date, count: int) -> date:
        if self.name in _months:
            months = day.year * 12 + day.month - 1 + count * _months[self.name]
            if not 12 <= months < 12 * 10_000:
                raise OverflowError
            return _first_dates[self.name](date(months // 12, months % 12 + 1, 1))
        first = _first_dates[self.name](day).toordinal()
        shifted = first + count * (7 if self.name == "week" else 1)
        if self.name == "day":
            skipped = self._skipped_dates(min(first, shifted) - 2, max(first, shifted) + 2)
            for gone in skipped if count > 0 else reversed(skipped):
                if first < gone <= shifted:
                    shifted += 1
                elif shifted <= gone < first:
                    shifted -= 1
        if not 1 <= shifted <= date.max.toordinal():
            raise OverflowError
        return date.fromordinal(shifted)

    def _skipped_dates(self, first: int, last: int) -> list[int]:
        """The dates (as ordinals) from `first` to `last` that the zone skipped: one or none."""
        bounds = (max(1, first), min(last, date.max.toordinal()))
        begin, end = (datetime.combine(date.fromordinal(one), time(), tzinfo=UTC) for one in bounds)
        runs = segments(self.zone, begin, end)
        return [
            self._local_date(run.since).toordinal() - 1
            for before, run in itertools.pairwise(runs)
            if run.offset - before.offset >= _DAY
        ]

    def axis(self, first: datetime, end: datetime) -> Iterator[datetime]:
        """The starts of all periods that overlap `[first, end)`, in order."""
        if first >= end:
            return
        if self.name == "hour":
            yield from self._hours(first, end)
            return
        # Where clocks went back over midnight, a date that ended comes again after the next one
        # began: its instants are its, though its start lies before.
        changes = segments(self.zone, first, min(end, first + min(_DAY, LAST_INSTANT - first)))
        turns = [change.since for change in changes[1:] if change.since < end]
        start = min(self.start(one) for one in [first, *turns])
        while start < end:
            yield start
            following = self.next(start)
            if following <= start or following == LAST_INSTANT:
                return
            start = following

    def start_of_date(self, day: date, *, after: datetime | None = None) -> datetime:
        """The first instant whose local date is `day` or, where the zone skipped it, a later one.

        `after` bounds the search from below (exclusive).
        """
        return _start_of_date(self, day) if after is None else self._find_start(day, after)

    def _find_start(self, day: date, after: datetime | None) -> datetime:
        if day == date.min:
            return FIRST_INSTANT  # also what a zone west of Greenwich still has of the day before
        try:
            midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)
        except OverflowError:
            return LAST_INSTANT
        if self.zone is _UTC or self.zone.key == "UTC":
            return midnight
        # fold=0 takes the earlier of two midnights, and a midnight that a change skipped with the
        # offset before it: then the change itself is where the date begins.
        if self._local_date(midnight) == day and self._is_midnight(midnight):
            return midnight
        floor = after if after is not None else midnight - 2 * _DAY
        changes = [
            segment.since
            for segment in segments(self.zone, midnight - 2 * _DAY, midnight + 2 * _DAY)
            if segment.since > floor and self._local_date(segment.since) >= day
        ]
        return min([*changes, midnight])

    def _is_midnight(self, instant: datetime) -> bool:
        local = instant.astimezone(self.zone)
        return (local.hour, local.minute, local.second) == (0, 0, 0)

    def _local_date(self, instant: datetime) -> date:
        try:
            return instant.astimezone(self.zone).date()
        except OverflowError:  # past the ends of the calendar the local date is the last one
            return instant.date()

    def _next_date(self, first: date) -> date:
        """The first date of the period after the one that holds `first`."""
        begin = _first_dates[self.name](first)
        ordinal = begin.toordinal() + _longest_days[self.name]
        if ordinal > date.max.toordinal():
            raise OverflowError
        beyond = date.fromordinal(ordinal)
        return _first_dates[self.name](beyond)

    def _hour_start(self, instant: datetime) -> datetime:
        offset = _offset(self.zone, instant)
        start = (instant - FIRST_INSTANT + offset) // _HOUR * _HOUR - offset
        begin = FIRST_INSTANT + start if start > timedelta(0) else FIRST_INSTANT
        if _offset(self.zone, begin) == offset:
            return begin
        return segments(self.zone, begin, instant)[-1].since

    def _hours(self, first: datetime, end: datetime) -> Iterator[datetime]:
        """The axis of hours, segment by segment: within one, each is an hour after the last."""
        runs = segments(self.zone, self._hour_start(first), end)
        for run, following in itertools.zip_longest(runs, runs[1:]):
            stop = min(end, following.since) if following else end
            start = run.since
            while start < stop:
                yield start
                local_hours = (start - FIRST_INSTANT + run.offset) // _HOUR
                if LAST_INSTANT - start <= _HOUR:
                    return
                start = FIRST_INSTANT + ((local_hours + 1) * _HOUR - run.offset)

    def _next_hour(self, start: datetime) -> datetime:
        offset = _offset(self.zone, start)
        local_hours = (start - FIRST_INSTANT + offset) // _HOUR + 1
        end = FIRST_INSTANT + (local_hours * _HOUR - offset)
        if _offset(self.zone, end) == offset:
            return end
        changes = [s.since for s in segments(self.zone, start, end) if s.since > start]
        return changes[0] if changes else end


def first_instant_of_hour(hours: int, segment: Segment) -> datetime:
    """Where the local hour begins that is `hours` after 0001-01-01T00:00, within the segment."""
    since_first = max(timedelta(0), hours * _HOUR - segment.offset)
    return max(FIRST_INSTANT + since_first, segment.since)


def _local(instant: datetime, segment: Segment) -> timedelta:
    """The local time since 0001-01-01T00:00, by the segment's offset."""
    return instant - FIRST_INSTANT + segment.offset


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    try:
        return instant.astimezone(zone).utcoffset() or timedelta(0)
    except OverflowError:  # the local time is past the calendar, so nothing is local there
        return timedelta(0)


def segments(zone: ZoneInfo, first: datetime, last: datetime) -> list[Segment]:
    """The zone's offsets over `[first, last]`, in order; the first segment's `since` is `first`.

    zoneinfo does not list a zone's changes, so each year is searched day by day, then by halves.
    """
    years = range(first.year, last.year + 1)
    changes = itertools.chain.from_iterable(_changes(zone, year) for year in years)
    return [
        Segment(first, _offset(zone, first)),
        *(change for change in changes if first < change.since <= last),
    ]


_FIRST_CHANGE = 1800
"""No zone of the IANA database changed its offset before this year."""
_RULES_ALONE = 2100
"""From here on zones only follow rules of the calendar, which repeats after 400 years."""
_CYCLE = timedelta(days=146_097)


@lru_cache(maxsize=4096)
def _start_of_date(period: Period, day: date) -> datetime:
    """A question of a year asks for the same days twice, as rows and as the axis."""
    return period._find_start(day, None)


@lru_cache(maxsize=4096)
def _changes(zone: ZoneInfo, year: int) -> tuple[Segment, ...]:
    """The changes of offset in a UTC year, exact to the second (the zone files' unit)."""
    if zone.key == "UTC" or 1 < year < _FIRST_CHANGE:
        return ()
    if _RULES_ALONE + 400 <= year < 9999:  # which ends with a change of its own
        same = _changes(zone, _RULES_ALONE + (year - _RULES_ALONE) % 400)
        later = (year - _RULES_ALONE) // 400 * _CYCLE
        return tuple(Segment(change.since + later, change.offset) for change in same)
    found = []
    begin = datetime(year, 1, 1, tzinfo=UTC)
    end = datetime(year + 1, 1, 1, tzinfo=UTC) if year < 9999 else LAST_INSTANT
    before = _offset(zone, begin - timedelta(seconds=1)) if year > 1 else _offset(zone, begin)
    low = begin - timedelta(seconds=1) if year > 1 else begin
    last = end - timedelta(seconds=1)
    while low < last:
        high = low + min(_DAY, last - low)
        after = _offset(zone, high)
        if after != before:
            change = _bisect(zone, low, high)
            found.append(Segment(change, _offset(zone, change)))
            # a second change within the same day is found from the first one on
            low, before = change, _offset(zone, change)
            continue
        low = high
    return tuple(found)


def _bisect(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The first second in `(low, high]` whose offset is not `low`'s."""
    before = _offset(zone, low)
    seconds_low, seconds_high = 0, int((high - low).total_seconds())
    while seconds_high - seconds_low > 1:
        middle = (seconds_low + seconds_high) // 2
        if _offset(zone, low + timedelta(seconds=middle)) == before:
            seconds_low = middle
        else:
            seconds_high = middle
    return low + timedelta(seconds=seconds_high)
