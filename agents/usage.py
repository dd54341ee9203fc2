"""Stage `usage`: who was seen this month, on which source, and how many calls there were.

`intake` notes each call it keeps: not a duplicate, not blocked. What is counted is in the
counters `usage:DAY:WHAT[:SOURCE]`; the rows here only remember who was counted already. A call of
a visitor seen before on its source this month costs one look-up and no write.
"""

from agents.records import SeenUser
from runtime.stage import Stage, State, Table
from usage.mtu import DAY_MS, User, Visitor, meet, names, visit

VISITORS: Table[Visitor] = Table("usage_visitors", b"Ua", Visitor)
USERS: Table[User] = Table("usage_users", b"Uu", User)


def note(state: State, source: str, user_id: str, anonymous_id: str, at_ms: int) -> None:
    """Count one kept call. An empty id is an absent one; ``at_ms`` must not fall within a log.

    Rule: governance G-46, G-47.
    """
    called = names(at_ms // DAY_MS, source)
    state.count(called.calls)
    if anonymous_id:
        key = anonymous_id.encode()
        row = state.get(VISITORS, key)
        if row is not None and row.month == called.month:
            known = row.users.get(source)
            # A userId that an anonymousId was first seen with is in the users of that source.
            if known == user_id or (known is not None and not user_id):
                return
        visited = visit(row, called, source, user_id)
        if visited is not None:
            state.put(VISITORS, key, visited[0])
            for name in visited[1]:
                state.count(name)
    if user_id:
        if state.routed:  # other lanes see this user too
            state.out("usage", user_id, SeenUser(user_id, source))
        else:
            note_user(state, SeenUser(user_id, source))


def note_user(state: State, seen: SeenUser) -> None:
    """Count a userId, if it was not seen before on this source in this month."""
    key = seen.user_id.encode()
    met = meet(state.get(USERS, key), names(state.at_ms // DAY_MS, seen.source), seen.source)
    if met is not None:
        state.put(USERS, key, met[0])
        for name in met[1]:
            state.count(name)


STAGE = Stage("usage", {SeenUser: note_user}, (VISITORS, USERS))
