"""A group call's account: its traits, and the link between it and the person (identity B2)."""

from msgspec.structs import replace

from agents.history import kept
from agents.profile_tables import HISTORY, PROFILES
from agents.records import AccountCall
from profiles import traits
from profiles.profile import ExternalId, Occurrence, Profile, history_key
from runtime.stage import State


def account_call(state: State, call: AccountCall) -> None:
    """Apply a group call to its account."""
    event = call.event
    key = call.account_id.encode()
    account = state.get(PROFILES, key)
    if account is None:
        state.count("accounts")
        own = ExternalId("group_id", call.group_id, event.at_ms, event.source, event.message_id)
        account = Profile(
            call.account_id, "accounts", event.at_ms, event.at_ms, event.message_id,
            event.source, event.message_id, event.source, ids=(own,),
        )
    elif event.repeat_of_ms >= 0 and kept(state, account, event):
        # Sent again after the dedup window: the history keeps one, as that of a person does.
        state.put(PROFILES, key, replace(account, updated_at_ms=event.at_ms))
        return
    changed = traits.merge(account.traits, event)
    people = account.links
    if call.person_id not in people:
        people = tuple(sorted((*people, call.person_id)))
    state.put(PROFILES, key, replace(
        account,
        updated_at_ms=event.at_ms,
        last_message_id=event.message_id,
        last_source=event.source,
        traits={**account.traits, **changed} if changed else account.traits,
        links=people,
    ))
    state.put(
        HISTORY,
        history_key(call.account_id, event.timestamp_ms, event.message_id),
        Occurrence(event.source, event.type, event.at_ms, event.received_at_ms, call.account_id,
                   (("group_id", call.group_id),), (), event.body),
    )
