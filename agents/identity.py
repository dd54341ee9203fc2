"""Stage `identity`: whose event is this, when `intake` cannot tell? One writer a space.

Decides by `identity.match`, in the order of its inbox: creates, extends and merges profiles, and
says so to the profiles concerned first, to `intake` last (protocol 1, 4). An owner row always
names a live profile: a merge rewrites those of the merged ones. The evidence that unmerge needs
stands in the history (`Occurrence.used`), what a lost profile was in its redirect.
"""

from typing import Any, Final, Protocol

from msgspec import Struct

from agents.records import AccountCall, Answer, Arrive, Claim, MergeOut, Revoke
from events.event import Event, Id
from identity.extract import Trace, trace
from identity.match import Match, Node, Pass, extended, match, profile_id, survivor, united
from identity.settings import Settings
from profiles.profile import ExternalId
from runtime.stage import Stage, State, Table

SPACE: Final = "default"
_SPACE: Final = SPACE.encode() + b"\0"


class Owner(Struct, frozen=True, gc=False, array_like=True):
    """The mapping of an external id: its live profile, since when, by which message.

    ``raw`` is the value as first sent, when normalisation changed it; else empty (identity X6).
    """

    profile_id: str
    at_ms: int
    message_id: str
    raw: str = ""


class Redirect(Struct, frozen=True, gc=False, array_like=True):
    """What became of a merged profile, and what it was, so that it can come back (identity 9)."""

    survivor: str
    at_ms: int
    message_id: str
    created_at_ms: int
    created_by: str
    anchor: Id


class Account(Struct, frozen=True, gc=False, array_like=True):
    """The mapping of a group id; ``called``: a group call has described it."""

    profile_id: str
    at_ms: int
    message_id: str
    called: bool


class TypeSeen(Struct, frozen=True, gc=False, array_like=True):
    """When an identifier of a type was first met (identity X4, R1)."""

    at_ms: int
    message_id: str


class Resolution(Struct, frozen=True, gc=False, array_like=True):
    """A resolution that merged profiles, demoted or left out identifiers (identity A9).

    Of the others the history row and the mappings tell the same. ``before`` are the profiles of
    all its identifiers, ``after`` is the one that the event went to.
    """

    action: str
    used: tuple[Id, ...]
    passes: tuple[Pass, ...]
    before: tuple[str, ...]
    after: str
    blocked: tuple[Id, ...] = ()


OWNERS: Table[Owner] = Table("identity_owners", b"Io", Owner)
"""(space, NUL, type, NUL, value) -> the mapping."""
NODES: Table[Node] = Table("identity_nodes", b"In", Node)
"""(space, NUL, profile id) -> a live profile."""
REDIRECTS: Table[Redirect] = Table("identity_redirects", b"Ir", Redirect)
"""(space, NUL, profile id) -> the profile it was merged into."""
ACCOUNTS: Table[Account] = Table("identity_accounts", b"Ia", Account)
"""(space, NUL, group id) -> the account's mapping."""
TYPES: Table[TypeSeen] = Table("identity_types", b"It", TypeSeen)
"""(space, NUL, type) -> when it was first met."""
RESOLUTIONS: Table[Resolution] = Table("identity_log", b"Iv", Resolution, cached=False)
"""(space, NUL, instant in 8 bytes, messageId) -> what was decided."""


class Reader(Protocol):
    """What look-ups need of a state, live or read from elsewhere."""

    def get(self, table: Table[Any], key: bytes) -> Any:
        """Return the row, or None."""


def claim(state: State, record: Claim) -> None:
    """Decide whose event it is, and tell everybody concerned.

    Rule: identity 5, 7; protocol 4.
    """
    event = record.event
    settings: Settings = state.definitions.identity
    owners: dict[Id, str] = {}
    nodes: dict[str, Node] = {}
    for id in record.ids:
        owner = state.get(OWNERS, _owner_key(id))
        if owner is not None:
            owners[id] = owner.profile_id
            if owner.profile_id not in nodes:
                node = state.get(NODES, _key(owner.profile_id))
                assert node is not None, f"{id} is mapped to {owner.profile_id}, which is gone"
                nodes[owner.profile_id] = node
    decided = match(record.ids, owners, nodes, settings, event.at_ms)
    traced = trace(event.data, event.type, settings)
    matched = {id: nodes[id] for id in decided.profiles}
    new = tuple(id for id in decided.used if id not in owners) if owners else decided.used
    if new or decided.passes:
        _see_types(state, record.ids, event)

    target, losers = _settle(state, event, decided, matched, new)
    for loser in losers:
        state.out("profile", loser, MergeOut(loser, target, event.message_id))
    for type, value in new:
        mapping = Owner(target, event.at_ms, event.message_id, traced.raw.get((type, value), ""))
        state.put(OWNERS, _owner_key((type, value)), mapping)
    _log(state, event, decided, tuple(nodes), target, traced)
    added = tuple(
        ExternalId(type, value, event.at_ms, event.source, event.message_id) for type, value in new
    )
    demoted = decided.demoted
    account = record.account
    account_id = ""
    if account and not settings.group_id.blocks(account):
        account_id, created = _account(state, event, account)
    state.out("profile", target,
              Arrive(event, target, decided.used, demoted, added, account_id))
    if account_id and event.type == "group":
        state.out("profile", account_id, AccountCall(event, account_id, account, target, created))
    for loser in losers:
        for type, values in nodes[loser].members.items():
            for value in values:
                rid = (type, value)
                state.out("intake", _routing(rid), Revoke(rid, loser, target))
    rid = record.routing_id
    granted = Answer(rid, "", ()) if demoted else Answer(rid, target, decided.used, account)
    state.out("intake", _routing(rid), granted)


def resolve(reader: Reader, type: str, value: str) -> str | None:
    """Return the live profile of an external id or of a `segment_id`, old or new; None: unknown.

    The value is normalised already (`Settings.normalised`). Type `group_id` gives the account.
    Rule: identity 6 (Redirect).
    """
    if type == "segment_id":
        return canonical(reader, value)
    if type == "group_id":
        account = reader.get(ACCOUNTS, _key(value))
        return None if account is None else account.profile_id
    owner = reader.get(OWNERS, _owner_key((type, value)))
    return None if owner is None else owner.profile_id


def canonical(reader: Reader, profile_id: str) -> str | None:
    """Return the profile that a person's profile id redirects to, over any number of hops; None:
    there never was such a profile. Of an account's id: None."""
    found = profile_id
    while (redirect := reader.get(REDIRECTS, _key(found))) is not None:
        found = redirect.survivor
    if found != profile_id or reader.get(NODES, _key(found)) is not None:
        return found
    return None


# ---- what changes -------------------------------------------------------------------------------
def _settle(
    state: State, event: Event, decided: Match, matched: dict[str, Node], new: tuple[Id, ...]
) -> tuple[str, tuple[str, ...]]:
    """Write the nodes; return the profile that the event goes to, and those merged into it."""
    at_ms = event.at_ms
    if not matched:
        best = decided.used[0]
        target = profile_id("use_", SPACE, event.message_id, best)
        members: dict[str, dict[str, int]] = {}
        for type, value in decided.used:
            members.setdefault(type, {})[value] = at_ms
        state.put(NODES, _key(target), Node(at_ms, event.message_id, best, members))
        return target, ()
    if len(matched) == 1:
        target = decided.profiles[0]
        if new:
            state.put(NODES, _key(target), extended(matched[target], new, at_ms))
        return target, ()
    order = sorted(matched, key=lambda id: (matched[id].created_at_ms, id))
    target, *losers = order
    assert target == survivor(matched)
    node = united((id, matched[id]) for id in order)
    state.put(NODES, _key(target), extended(node, new, at_ms) if new else node)
    for loser in losers:
        lost = matched[loser]
        state.delete(NODES, _key(loser))
        state.put(REDIRECTS, _key(loser),
                  Redirect(target, at_ms, event.message_id, lost.created_at_ms, lost.message_id,
                           lost.anchor))
        for type, values in lost.members.items():
            for value in values:
                key = _owner_key((type, value))
                owner = state.get(OWNERS, key)
                assert owner is not None
                state.put(OWNERS, key, Owner(target, owner.at_ms, owner.message_id, owner.raw))
    state.add("identity:merges", len(losers))
    return target, tuple(losers)


def _account(state: State, event: Event, group_id: str) -> tuple[str, bool]:
    """Return the account's profile id, and whether this call is the first to describe it (B2)."""
    key = _key(group_id)
    account = state.get(ACCOUNTS, key)
    called = event.type == "group"
    if account is None:
        id = profile_id("acc_", SPACE, event.message_id, ("group_id", group_id))
        state.put(ACCOUNTS, key, Account(id, event.at_ms, event.message_id, called))
        return id, called
    if called and not account.called:
        state.put(ACCOUNTS, key,
                  Account(account.profile_id, account.at_ms, account.message_id, True))
        return account.profile_id, True
    return account.profile_id, False


def _see_types(state: State, ids: tuple[Id, ...], event: Event) -> None:
    for type, _ in ids:
        key = _key(type)
        if state.get(TYPES, key) is None:
            state.put(TYPES, key, TypeSeen(event.at_ms, event.message_id))


def _log(
    state: State, event: Event, decided: Match, before: tuple[str, ...], target: str, traced: Trace
) -> None:
    """Keep what A9 asks for and nothing else tells; count violations by kind."""
    blocked: tuple[Id, ...] = ()
    if traced.dropped:
        blocked = tuple(
            (type, value) for reason, type, value in traced.dropped if reason == "value_blocked"
        )
        for reason, _, _ in traced.dropped:
            state.count(f"identity:{reason}")
    for one in decided.passes:
        for kind in sorted({kind for kind, _ in one.violations}):
            state.count(f"identity:{kind}")
    if blocked or decided.passes or len(decided.profiles) > 1:
        action = ("create", "add", "merge")[min(len(decided.profiles), 2)]
        state.put(
            RESOLUTIONS,
            _SPACE + event.at_ms.to_bytes(8, "big") + event.message_id.encode(),
            Resolution(action, decided.used, decided.passes, before, target, blocked),
        )


def _owner_key(id: Id) -> bytes:
    return f"{SPACE}\0{id[0]}\0{id[1]}".encode()


def _key(name: str) -> bytes:
    return _SPACE + name.encode()


def _routing(rid: Id) -> str:
    return f"{rid[0]}:{rid[1]}"


STAGE = Stage(
    "identity",
    {Claim: claim},
    (OWNERS, NODES, REDIRECTS, ACCOUNTS, TYPES, RESOLUTIONS),
)
