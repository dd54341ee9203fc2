"""What an operator and a marketer read of the platform: health, metrics, usage, audiences and
journeys.

`/health` is open and says nothing but what is amiss; all else wants the token.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from agents.profile_tables import MEMBERS, PROFILES
from app.reader import Reader
from app.web import asking
from app.web.access import Access, invalid, missing, reply
from app.web.asking import iso
from app.web.profile_api import in_space
from usage.mtu import PREFIX as USAGE
from usage.mtu import report

_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])")


class Ports(Struct, frozen=True):
    """What these routes stand on."""

    access: Access
    space: str
    reader: Reader
    amiss: Callable[[], list[str]]
    """Why the platform does not serve now, a sentence each; empty: it does."""
    audiences: Callable[[], Mapping[str, str]]
    """Key -> name of all that are defined now."""
    journeys: Callable[[], Mapping[str, str]]
    refused: Callable[[], Mapping[str, int]]
    """Reason -> calls refused before the log, since this process began."""
    in_flight: Callable[[], int]
    """Events in the log that are not applied yet."""
    gauges: Callable[[], Mapping[str, float]]
    """Name -> present value of whatever else is worth watching."""
    now_ms: Callable[[], int]
    run: asking.Run = asking.at_once
    own: Reader | None = None
    """What this process alone has counted, for `/metrics`; None: ``reader`` is that."""


def add_routes(app: web.Application, ports: Ports) -> None:
    """Serve them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Numbers(ports))

    async def health(_request: web.Request) -> web.Response:
        reasons = ports.amiss()
        if reasons:
            return reply({"status": "unavailable", "reasons": reasons}, 503, {"Retry-After": "1"})
        return reply({"status": "ok"})

    async def metrics(request: web.Request) -> web.Response:
        ports.access.check(request)
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def usage(request: web.Request) -> web.Response:
        ports.access.check(request)
        return reply(await ports.run(_usage, request, ports))

    async def audiences(request: web.Request) -> web.Response:
        _admit(request, ports)
        return reply(await ports.run(_audiences, request, ports))

    async def members(request: web.Request) -> web.Response:
        _admit(request, ports)
        return reply(await ports.run(_members, request, ports))

    async def journey(request: web.Request) -> web.Response:
        _admit(request, ports)
        return reply(await ports.run(_journey, request, ports))

    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/usage", usage)
    for root in ("spaces", "namespaces"):
        space = f"/v1/{root}/{{space:[^/]+}}"
        app.router.add_get(f"{space}/audiences", audiences)
        app.router.add_get(f"{space}/audiences/{{key:[^/]+}}/members", members)
        app.router.add_get(f"{space}/journeys/{{key:[^/]+}}", journey)


def _admit(request: web.Request, ports: Ports) -> None:
    ports.access.check(request)
    in_space(request, ports.space)


# ---- usage ---------------------------------------------------------------------------------------
def _usage(request: web.Request, ports: Ports) -> dict[str, object]:
    """Return the usage of a month, the present one unless the query names another.

    Rule: governance G-46, G-47.
    """
    month = request.query.get("month")
    if month is None:
        month = f"{datetime.fromtimestamp(ports.now_ms() / 1000, UTC):%Y-%m}"
    if not _MONTH.fullmatch(month) or not month.isascii():
        raise invalid("month must be YYYY-MM")
    return report(month, ports.reader.counters(f"{USAGE}{month}-"))


# ---- audiences and journeys ----------------------------------------------------------------------
def _audiences(request: web.Request, ports: Ports) -> dict[str, Any]:
    names = ports.audiences()
    limit = asking.limit(request, 100, 100)
    after = asking.after_cursor(request, "audiences", ports.space, str)
    keys = sorted(key for key in names if after is None or key > after)
    page = keys[:limit]
    data = [
        {"key": key, "name": names[key], "size": ports.reader.counter(f"audience:{key}:size")}
        for key in page
    ]
    more = len(keys) > limit
    return {"data": data, "cursor": _cursor(ports, "audiences", page[-1:], more, limit)}


def _members(request: web.Request, ports: Ports) -> dict[str, Any]:
    """Return who is inside, by profile id, with when they came in and how they are known."""
    key = asking.segment(request, 5, "audience")
    if key not in ports.audiences():
        raise missing("there is no such audience")
    limit = asking.limit(request, 100, 100)
    resource = f"audiences/{key}/members"
    after = asking.after_cursor(request, resource, ports.space, str)
    prefix = key.encode() + b"\0"
    start = prefix + after.encode() + b"\0" if after else b""
    page: list[tuple[str, int]] = []
    more = False
    for row, entered_at_ms in ports.reader.scan(MEMBERS, prefix, start):
        if len(page) == limit:
            more = True
            break
        page.append((row[len(prefix):].decode(), entered_at_ms))
    data = []
    for profile_id, entered_at_ms in page:
        profile = ports.reader.get(PROFILES, profile_id.encode())
        ids = () if profile is None else profile.ids
        data.append({
            "segment_id": profile_id, "entered_at": iso(entered_at_ms),
            "external_ids": [{"type": id.type, "id": id.value} for id in ids],
        })
    last = [profile_id for profile_id, _ in page[-1:]]
    return {"data": data, "cursor": _cursor(ports, resource, last, more, limit)}


def _cursor(
    ports: Ports, resource: str, last: list[str], more: bool, limit: int
) -> dict[str, Any]:
    following = asking.cursor(resource, ports.space, last[0]) if more else ""
    return {"url": f"/v1/spaces/{ports.space}/{resource}", "has_more": more, "next": following,
            "limit": limit}


def _journey(request: web.Request, ports: Ports) -> dict[str, Any]:
    """Return a journey's counts, and those of its steps, of all versions together and of each.

    The counters are named ``journey:KEY:VERSION:STEP:WHAT``, the journey's own without a step.
    ``present`` of a step: who waits there now.
    """
    key = asking.segment(request, 5, "journey")
    name = ports.journeys().get(key)
    if name is None:
        raise missing("there is no such journey")
    counts: dict[str, int] = {}
    steps: dict[str, dict[str, int]] = {}
    versions: dict[str, dict[str, dict[str, int]]] = {}
    for counter, value in ports.reader.counters(f"journey:{key}:"):
        version, step, what = _parts(counter, 5)[2:]
        if not step:
            counts[what] = counts.get(what, 0) + value
            continue
        for into in (steps, versions.setdefault(version, {})):
            told = into.setdefault(step, {})
            told[what] = told.get(what, 0) + value
    for told in (steps, *versions.values()):
        for step in told.values():
            step["present"] = step.get("arrived", 0) - step.get("left", 0)
    return {"key": key, "name": name, "counts": counts, "steps": steps, "versions": versions}


def _parts(counter: str, count: int) -> list[str]:
    """Return the parts of a counter's name, empty ones for those that it lacks."""
    parts = counter.split(":", count - 1)
    return parts + [""] * (count - len(parts))


# ---- metrics -------------------------------------------------------------------------------------
_BALANCE = {
    "duplicates": "Events whose messageId was seen within the dedup window.",
    "filtered": "Events kept out of the space by a gate.",
    "unresolved": "Events without a usable identifier.",
    "applied": "Events applied to a profile.",
}
_MENTIONED = frozenset((*_BALANCE, "logged", "set_aside"))


class Numbers(Collector):
    """The counters as Prometheus families, made when asked for.

    logged = duplicates + filtered + unresolved + applied + set_aside + in_flight. What was refused
    before the log is counted apart, since this process began.
    """

    def __init__(self, ports: Ports) -> None:
        """Show what ``ports`` give."""
        self._ports = ports

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""
        ports = self._ports
        counters = {
            name: value
            for name, value in (ports.own or ports.reader).counters()
            if not name.startswith(USAGE)  # these grow with every day: GET /v1/usage tells them
        }
        in_flight = ports.in_flight()
        logged = counters.get("logged", 0) + in_flight
        yield _total("logged", "Events accepted into the log.", logged)
        for name, text in _BALANCE.items():
            yield _total(name, text, counters.get(name, 0))
        yield _gauge("set_aside", "Events that broke a stage and are kept for a second try.",
                     counters.get("set_aside", 0))
        yield _gauge("in_flight", "Events in the log that are not applied yet.", in_flight)
        refused = _family("refused", "Calls refused before the log, by reason.", ("reason",))
        for reason, count in sorted(ports.refused().items()):
            refused.add_metric((reason,), count)
        yield refused
        yield from _named(counters)
        for name, value in sorted(ports.gauges().items()):
            yield _gauge(name, "A present value.", value)


def _named(counters: Mapping[str, int]) -> Iterator[Metric]:
    """Yield the families of counters with parts in their names."""
    sizes = GaugeMetricFamily(
        "watersmeet_audience_size", "Persons inside an audience.", labels=("audience",)
    )
    steps = GaugeMetricFamily(
        "watersmeet_journey_step", "Journey instances by step and by what became of them there.",
        labels=("journey", "version", "step", "what"),
    )
    others = GaugeMetricFamily(
        "watersmeet_counted", "All other counters, by name and detail.", labels=("name", "detail")
    )
    for counter, value in counters.items():
        name, _, detail = counter.partition(":")
        if name == "audience" and detail.endswith(":size"):
            sizes.add_metric((detail.removesuffix(":size"),), value)
        elif name == "journey":
            steps.add_metric(_parts(counter, 5)[1:], value)
        elif counter not in _MENTIONED:
            others.add_metric((name, detail), value)
    yield from (sizes, steps, others)


def _family(name: str, text: str, labels: tuple[str, ...] = ()) -> CounterMetricFamily:
    return CounterMetricFamily(f"watersmeet_{name}", text, labels=labels)


def _total(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"watersmeet_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"watersmeet_{name}", text, value=value)
