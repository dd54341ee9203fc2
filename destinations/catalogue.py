"""The types of destinations, and a workspace's destinations made ready for use."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct

from destinations import webhook
from destinations.request import InvalidSettings, Kind, Settings, filled
from destinations.retry import WINDOW_MS
from events.durations import millis

CATALOGUE: dict[str, Kind] = {kind.slug: kind for kind in (webhook.KIND,)}
"""By the word that stands in `type`."""

TIMEOUT_MS = 5_000


class Counters(Struct, frozen=True):
    """The names of a destination's counters, made once.

    What waits is received - delivered - discarded - expired - removed; ``retrying`` is the part
    of it that failed before.
    """

    received: str
    delivered: str
    discarded: str
    expired: str
    removed: str
    filtered: str
    retrying: str


def counters(key: str) -> Counters:
    """Return the names of the counters of the destination with this key."""
    return Counters(*(f"jobs_{name}:{key}" for name in Counters.__struct_fields__))


class Ready(Struct, frozen=True):
    """A destination as the stages and outbound use it. ``settings`` stay as written: `${NAME}`."""

    key: str
    name: str
    kind: Kind
    enabled: bool
    sources: frozenset[str]
    types: frozenset[str] | None
    names: frozenset[str] | None
    url: str
    secret: str | None
    headers: dict[str, str]
    timeout_ms: int
    batch_size: int
    window_ms: int
    per_second: float
    """0: no limit."""
    include_traits: tuple[str, ...]
    counters: Counters

    def settings(self, env: Mapping[str, str]) -> Settings:
        """Return the settings filled in from the environment.

        Raises InvalidSettings with a text that never holds a value.
        """
        settings = filled(self.url, self.secret, self.headers, env, self.batch_size > 1)
        what = self.kind.fault(settings)
        if what is not None:
            raise InvalidSettings(what)
        return settings


class Destinations(dict[str, Ready]):
    """A workspace's destinations by key; ``by_source`` are those that take a source's events.

    Disabled ones are in the mapping, and in no source's list.
    """

    by_source: dict[str, tuple[Ready, ...]]

    def __init__(self, ready: Mapping[str, Ready]) -> None:
        super().__init__((key, ready[key]) for key in sorted(ready))
        by_source: dict[str, list[Ready]] = {}
        for one in self.values():
            if one.enabled:
                for source in sorted(one.sources):
                    by_source.setdefault(source, []).append(one)
        self.by_source = {source: tuple(takers) for source, takers in by_source.items()}


def compiled(definitions: Mapping[str, Any]) -> Destinations:
    """Return the checked `destinations.definition.Destination` of every key, made ready.

    Rule: workspace 5.
    """
    return Destinations({key: ready(key, given) for key, given in definitions.items()})


def ready(key: str, given: Any) -> Ready:
    """Return one checked definition made ready; what is absent gets its default."""
    kind = CATALOGUE[given.type]
    settings = given.settings
    events = _or(given.events, None)
    retry = _or(given.retry, None)
    limit = _or(given.rate_limit, None)
    types = _or(events.types, None) if events is not None else None
    names = _or(events.names, None) if events is not None else None
    window = _or(retry.window, None) if retry is not None else None
    timeout = _or(settings.timeout, None)
    return Ready(
        key=key,
        name=_or(given.name, None) or key,
        kind=kind,
        enabled=_or(given.enabled, True),
        sources=frozenset(_or(given.sources, ())),
        types=None if types is None else frozenset(types),
        names=None if names is None else frozenset(names),
        url=settings.url,
        secret=_or(settings.secret, None),
        headers=dict(_or(settings.headers, {})),
        timeout_ms=TIMEOUT_MS if timeout is None else millis(timeout),
        batch_size=min(max(_or(settings.batch_size, 1), 1), kind.largest_batch),
        window_ms=WINDOW_MS if window is None else millis(window),
        per_second=float(_or(limit.per_second, 0)) if limit is not None else 0.0,
        include_traits=tuple(_or(given.include_traits, ())),
        counters=counters(key),
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is UNSET or value is None else value
