"""A space under test: calls in, people out. Runs the stages `intake` and `identity` themselves."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec

from agents import identity, intake
from agents.identity import NODES, RESOLUTIONS, Resolution, canonical, resolve
from agents.records import AccountCall, Arrive, Claim, MergeOut, Received
from events.event import Event, Id
from events.reading import brief
from identity.extract import account_of, candidates, gate, routing_id
from identity.match import Node
from identity.settings import Identity, compile_settings
from tests.stages import MemoryState

SECOND = 1_000
DAY = 86_400_000
START = 1_772_445_600_000  # 2026-03-02T10:00:00Z
SHORT = {"u": "user_id", "e": "email", "a": "anonymous_id", "ga": "ga_client_id"}
STAGES = {"intake": intake.STAGE, "identity": identity.STAGE}


def settings(**fields: Any) -> Identity:
    """Return identity settings as a workspace file would define them."""
    return msgspec.convert(fields, Identity)


def call(type: str, **fields: Any) -> dict[str, Any]:
    """Return a call. Short names: u userId, a anonymousId, e the email, ga the client id.

    The email stands where the call has it: in the traits of identify, else in context.traits.
    """
    data: dict[str, Any] = {"type": type}
    context = dict(fields.pop("context", {}))
    traits = dict(fields.pop("traits", {}))
    for short, key in (("u", "userId"), ("a", "anonymousId"), ("g", "groupId")):
        if short in fields:
            data[key] = fields.pop(short)
    if "e" in fields:
        email = fields.pop("e")
        if type == "identify":
            traits["email"] = email
        else:
            context["traits"] = {"email": email}
    if "ga" in fields:
        context["integrations"] = {"Google Analytics": {"clientId": fields.pop("ga")}}
    if traits or type == "identify":
        data["traits"] = traits
    if context:
        data["context"] = context
    if type == "track":
        data["event"] = "Seen"
    return {**data, **fields}


class Outcome(SimpleNamespace):
    """What became of one call: `profile` as it was then (None: none), `used`, `demoted`, ..."""

    profile: str | None
    used: tuple[Id, ...]
    demoted: set[str]
    merged: tuple[str, ...]
    arrive: Arrive | None
    account: AccountCall | None


class Graph:
    """One space. ``links``: with intake's fast path; else every call is a claim."""

    def __init__(self, links: bool = True, **fields: Any) -> None:
        self.links = links
        self.state = MemoryState(
            SimpleNamespace(
                identity=compile_settings(settings(**fields)),
                dedup_window_ms=DAY,
                decode=brief,
                receivers=lambda event: (),
                filtered=lambda event: (),
                destinations=SimpleNamespace(receivers=lambda event: (), by_source={}),
            ),
            at_ms=START - SECOND,
        )
        self.sent = 0
        self.arrived: list[Arrive] = []
        self.records: list[Any] = []

    # ---- calls in
    def define(self, **fields: Any) -> None:
        """Change the settings."""
        self.state.definitions.identity = compile_settings(settings(**fields))

    def identify(self, **fields: Any) -> Outcome:
        return self.send(call("identify", **self._times(fields)))

    def track(self, **fields: Any) -> Outcome:
        return self.send(call("track", **self._times(fields)))

    def group(self, **fields: Any) -> Outcome:
        return self.send(call("group", **self._times(fields)))

    def alias(self, **fields: Any) -> Outcome:
        return self.send(call("alias", **self._times(fields)))

    def _times(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.sent += 1
        fields.setdefault("messageId", fields.pop("id", f"m{self.sent}"))
        at_ms = fields.pop("at", None)
        self.state.at_ms = self.state.at_ms + SECOND if at_ms is None else START + at_ms
        return fields

    def send(self, data: dict[str, Any], timestamp_ms: int | None = None) -> Outcome:
        """Let the space have a call at the present instant."""
        at_ms = self.state.at_ms
        moment = at_ms if timestamp_ms is None else timestamp_ms
        before = len(self.records)
        body = msgspec.json.encode(data)
        if self.links:
            record: Any = Received("web", data["messageId"], at_ms, moment, body)
            self._run("intake", record)
        else:
            event = Event("web", data["messageId"], data["type"], at_ms, at_ms, moment, body, data)
            chosen = self.state.definitions.identity
            ids = candidates(data, event.type, chosen)
            rid = routing_id(data, ids)
            if gate(data, event.type, chosen) is None and rid is not None:
                account = account_of(data, event.type)
                self._run("identity", Claim(event, ids, rid, account))
        return self._outcome(self.records[before:])

    def _run(self, stage: str, record: Any) -> None:
        self.records.append(record)
        if stage not in STAGES or (stage == "intake" and not self.links):
            return
        for sent in self.state.run(STAGES[stage], record):
            self._run(sent.stage, sent.record)

    def _outcome(self, records: list[Any]) -> Outcome:
        arrive = next((one for one in records if isinstance(one, Arrive)), None)
        if arrive is not None:
            self.arrived.append(arrive)
        return Outcome(
            profile=arrive.profile_id if arrive else None,
            used=arrive.used if arrive else (),
            demoted={value for _, value in arrive.demoted} if arrive else set(),
            added={one.value for one in arrive.added} if arrive else set(),
            merged=tuple(one.loser for one in records if isinstance(one, MergeOut)),
            arrive=arrive,
            account=next((one for one in records if isinstance(one, AccountCall)), None),
            records=records,
        )

    # ---- people out
    def nodes(self) -> dict[str, Node]:
        return {
            key.partition(b"\0")[2].decode(): node for key, node in self.state.scan(NODES)
        }

    def people(self) -> set[str]:
        """Return the people, each as its values in alphabetical order."""
        found = [
            " ".join(sorted(value for values in node.members.values() for value in values))
            for node in self.nodes().values()
        ]
        assert len(found) == len(set(found))
        return set(found)

    def of(self, value: str, type: str | None = None) -> str | None:
        """Return the profile of an id; its type by its letters unless given."""
        return resolve(self.state, type or SHORT[value.rstrip("0123456789")], value)

    def now(self, profile: str | None) -> str | None:
        """Return what a profile id redirects to."""
        return canonical(self.state, profile) if profile else None

    def merges(self, value: str) -> int:
        profile = self.of(value)
        return len(self.nodes()[profile].absorbed) if profile else -1

    def events(self) -> Counter[str | None]:
        """Return the number of events by live profile."""
        return Counter(self.now(one.profile_id) for one in self.arrived)

    def log(self) -> list[Resolution]:
        return [row for _, row in self.state.scan(RESOLUTIONS)]

    def violations(self) -> list[set[str]]:
        """Return the kinds of violation of each logged pass."""
        return [{kind for kind, _ in one.violations} for row in self.log() for one in row.passes]

    def consistent(self) -> None:
        """Check that owners and nodes say the same, and no merged profile is still about."""
        for profile, node in self.nodes().items():
            for type, values in node.members.items():
                assert values
                for value in values:
                    assert resolve(self.state, type, value) == profile
            for lost in node.absorbed:
                assert self.now(lost) == profile
        owned = sum(1 for _ in self.state.scan(identity.OWNERS))
        assert owned == sum(len(v) for n in self.nodes().values() for v in n.members.values())
