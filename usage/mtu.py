"""Monthly tracked users and API calls: what a call adds to the counts of its month.

In a calendar month (UTC, by the instant of receipt): U are the userIds seen, A the anonymousIds
seen, L those of A that stood beside some userId in one call. MTU = |U| + |A \\ L|. The same on the
calls of one source. Counted as they come: each call adds to the counts of its day, and the sum of
the days up to one is what held at its end, since an anonymousId that is linked later lowers the
count of that later day only.

Rule: governance G-46, G-47.
"""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from functools import lru_cache

from msgspec import Struct

DAY_MS = 24 * 60 * 60 * 1000
PREFIX = "usage:"
LATEST_MONTHS = 12
"""A userId's months that are remembered, so that a late call is not counted again."""
_EPOCH = date(1970, 1, 1)


class Visitor(Struct, frozen=True, gc=False, array_like=True):
    """An anonymousId in its latest month: each source it was seen on, with the first userId that
    stood beside it there; empty: none did."""

    month: int
    users: dict[str, str]


class User(Struct, frozen=True, gc=False, array_like=True):
    """A userId in its latest month: the sources it was seen on, sorted."""

    month: int
    sources: tuple[str, ...]
    earlier: dict[int, tuple[str, ...]] = {}
    """The months before: calls that come by several lanes are not in order of their instants."""


class Names(Struct, frozen=True, gc=False):
    """What counts of one source and day are called, and the month that the day is in."""

    month: int
    calls: str
    identified: str
    all_identified: str
    anonymous: str
    all_anonymous: str
    linked: str
    all_linked: str


@lru_cache(maxsize=4096)
def names(day: int, source: str) -> Names:
    """Return the names for a day (days since 1970) and source.

    ``usage:DAY:WHAT:SOURCE`` counts a source, ``usage:DAY:WHAT`` all of them; what all sources
    called is the sum.
    """
    when = _EPOCH + timedelta(days=day)
    start = f"{PREFIX}{when.isoformat()}:"
    return Names(
        when.year * 12 + when.month - 1,
        f"{start}calls:{source}",
        f"{start}identified:{source}", f"{start}identified",
        f"{start}anonymous:{source}", f"{start}anonymous",
        f"{start}linked:{source}", f"{start}linked",
    )


def visit(
    row: Visitor | None, called: Names, source: str, user_id: str
) -> tuple[Visitor, tuple[str, ...]] | None:
    """Return the anonymousId's new row and the counts that rise by one; None: nothing is new.

    ``user_id`` is what stands beside it in the call, empty if nothing does.
    """
    users = row.users if row is not None and row.month == called.month else {}
    known = users.get(source)
    if known is not None and (known or not user_id):
        return None
    rises = []
    if known is None:
        rises.append(called.anonymous)
        if not users:
            rises.append(called.all_anonymous)
    if user_id:
        rises.append(called.linked)
        if not any(users.values()):
            rises.append(called.all_linked)
    return Visitor(called.month, {**users, source: user_id}), tuple(rises)


def meet(
    row: User | None, called: Names, source: str
) -> tuple[User, tuple[str, ...]] | None:
    """Return the userId's new row and the counts that rise by one; None: nothing is new."""
    month = called.month
    months = {} if row is None else {**row.earlier, row.month: row.sources}
    sources = months.get(month, ())
    if source in sources:
        return None
    rises = (called.identified,) if sources else (called.identified, called.all_identified)
    months[month] = tuple(sorted((*sources, source)))
    latest = max(months)
    earlier = {one: months[one] for one in sorted(months) if latest - LATEST_MONTHS < one < latest}
    return User(latest, months[latest], earlier), rises


class Counts(Struct):
    """The counts of a month, or of what has passed of it."""

    identified: int = 0
    anonymous: int = 0
    anonymous_identified: int = 0
    api_calls: int = 0

    def add(self, what: str, by: int) -> None:
        """Take in a count, by the word that stands in its name."""
        if what == "calls":
            self.api_calls += by
        elif what == "linked":
            self.anonymous_identified += by
        elif what == "identified":
            self.identified += by
        elif what == "anonymous":
            self.anonymous += by

    @property
    def mtu(self) -> int:
        """Return |U| + |A \\ L|."""
        return self.identified + self.anonymous - self.anonymous_identified

    def told(self) -> dict[str, int]:
        """Return the counts under the names of the public API's snapshot."""
        return {
            "mtu": self.mtu,
            "identified": self.identified,
            "anonymous": self.anonymous,
            "anonymous_identified": self.anonymous_identified,
            "never_identified": self.anonymous - self.anonymous_identified,
            "api_calls": self.api_calls,
        }


def report(month: str, counters: Iterable[tuple[str, int]]) -> dict[str, object]:
    """Return the usage of a month (``YYYY-MM``) from the counters whose names begin with
    ``usage:MONTH``.

    ``by_day`` lists the days that had calls: ``mtu`` as it stood at the day's end, ``api_calls``
    of that day alone. ``by_source`` holds each source's counts on its own calls: their sum may be
    more than the whole.
    """
    total = Counts()
    by_source: dict[str, Counts] = {}
    by_day: list[dict[str, object]] = []
    day, calls = "", 0

    def close() -> None:
        if day:
            by_day.append({"day": day, "mtu": total.mtu, "api_calls": calls})

    for when, what, source, by in _parsed(month, counters):
        if when != day:
            close()
            day, calls = when, 0
        if source:
            by_source.setdefault(source, Counts()).add(what, by)
        if not source or what == "calls":
            total.add(what, by)
        if what == "calls":
            calls += by
    close()
    return {
        "month": month,
        **total.told(),
        "by_source": {source: by_source[source].told() for source in sorted(by_source)},
        "by_day": by_day,
    }


def _parsed(
    month: str, counters: Iterable[tuple[str, int]]
) -> Iterator[tuple[str, str, str, int]]:
    """Yield (day, what, source or empty, count), in order of days."""
    start = f"{PREFIX}{month}-"
    for name, value in sorted(counters):
        if name.startswith(start):
            _, day, what, *source = name.split(":", 3)
            yield day, what, source[0] if source else "", value
