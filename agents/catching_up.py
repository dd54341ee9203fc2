"""New definitions and the persons who are already there (audiences E7, B3, B12; protocol 10).

A profile is brought up to date when it is next touched, before anything else is done with it; a
sweep in small logged steps does the same for all others, beside live input. Only the final state
is told, once a person.
"""

from msgspec.structs import replace

from agents.history import occurrences
from agents.person import (
    Conditions,
    announce_changes,
    is_inside,
    settle_person,
    store,
    strike,
)
from agents.profile_tables import PROFILES, SWEEP
from agents.records import Continue, Define
from audiences.calls import present
from audiences.evaluate import rebuild
from audiences.plan import Plan
from profiles.profile import Profile, Trait
from runtime.stage import State


def begin_sweep(state: State, _record: Define) -> None:
    """Begin to bring all profiles up to the definitions just taken in force."""
    definitions = state.definitions
    since = definitions.since
    news = (*since.computations.values(), *since.connected.values(), since.gone)
    if definitions.number in news:
        state.put(SWEEP, b"", b"")


def step(state: State, record: Continue) -> None:
    """Bring the next profiles up to date."""
    last = state.get(SWEEP, b"")
    if last is None:
        return
    number = state.definitions.number
    looked_at = 0
    todo: list[Profile] = []
    for key, profile in state.scan(PROFILES, b"", last + b"\0" if last else b""):
        looked_at += 1
        last = key
        if not profile.survivor and profile.collection == "users" and profile.definitions != number:
            todo.append(profile)
        if looked_at == record.profiles:
            break
    for profile in todo:
        store(state, profile, up_to_date(state, profile))
    if looked_at < record.profiles:
        state.delete(SWEEP, b"")
    else:
        state.put(SWEEP, b"", last)


def up_to_date(state: State, profile: Profile) -> Profile:
    """Return the profile under the definitions in force; its history fills what is new.

    Cost: nothing much when they change nothing for it, else a row an event of its history.
    """
    definitions = state.definitions
    plan, since, known = definitions.plan, definitions.since, profile.definitions
    now_ms = state.at_ms
    if since.gone > known:
        for key in profile.memberships:
            if key not in plan.computations and is_inside(profile, key):
                strike(state, profile.id, key)
        profile = without_gone(plan, profile, now_ms)
    leaves = [bytes.fromhex(id) for id, number in since.leaves.items() if number > known]
    conditions = Conditions(state, profile)
    if leaves:
        names = {plan.leaves[id].match.event for id in leaves}
        for id, row in rebuild(plan, leaves, occurrences(state, profile, names)).items():
            conditions.put(id, row)
        profile = replace(profile, leaves=conditions.small)
    touched = [key for key, number in since.computations.items() if number > known]
    profile = replace(profile, definitions=definitions.number)
    if touched:
        profile = settle_person(state, profile, touched, now_ms)
    connected = [
        tuple(pair.split("\0")) for pair, number in since.connected.items() if number > known
    ]
    if connected:
        pairs = [(key, destination) for key, destination in connected if key not in touched]
        announce_changes(state, profile, present(plan, profile, pairs), now_ms, frozenset(pairs))
    return profile


def without_gone(plan: Plan, profile: Profile, now_ms: int) -> Profile:
    """Return the profile with what is computed no more as custom traits (audiences T6, B12)."""
    traits = dict(profile.traits)
    for key, membership in profile.memberships.items():
        if key not in plan.computations:
            traits[key] = Trait(membership.inside, now_ms, now_ms, "", "")
    for key, computed in profile.computed.items():
        if key not in plan.computations and computed.value is not None:
            traits[key] = Trait(computed.value, computed.updated_at_ms, now_ms, "", "")
    return replace(
        profile,
        traits=traits,
        computed={k: v for k, v in profile.computed.items() if k in plan.computations},
        memberships={k: v for k, v in profile.memberships.items() if k in plan.computations},
        flips={k: v for k, v in profile.flips.items() if k in plan.computations},
        leaves={k: v for k, v in profile.leaves.items() if k in plan.small},
    )
