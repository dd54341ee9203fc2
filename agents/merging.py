"""Two profiles become one: the loser hands over all it holds, the survivor unites and looks again.

In the fused mode nothing is in flight, so the loser's hand follows the order at once and no queue
has to hold (protocol 5, 10). The history stays where it is: the survivor reads it under the ids of
those it absorbed.
"""

from msgspec.structs import replace

from agents.catching_up import up_to_date
from agents.history import occurrences
from agents.person import (
    Conditions,
    enlist,
    fire,
    is_inside,
    moved,
    settle_person,
    store,
    strike,
)
from agents.profile_tables import CONDITIONS, PROFILES, RUNNING, TIMERS
from agents.records import Hand, MergeOut, Moved
from audiences.merge import unite, unite_results
from journeys import moves
from journeys.view import View
from profiles import traits
from profiles.profile import Profile
from runtime.stage import State


def hand_over(state: State, order: MergeOut) -> None:
    """Give up everything to the survivor and become a tombstone that leads there."""
    key = order.loser.encode()
    profile = state.get(PROFILES, key)
    assert profile is not None, f"the merged profile {order.loser} is unknown"
    profile = _present(state, profile)
    prefix = key + b"\0"
    conditions = tuple((leaf[len(prefix):], row) for leaf, row in state.scan(CONDITIONS, prefix))
    for leaf, _ in conditions:
        state.delete(CONDITIONS, prefix + leaf)
    running = state.get(RUNNING, key)
    if running is not None:
        state.delete(RUNNING, key)
    if profile.armed_ms:
        state.delete(TIMERS, profile.armed_ms.to_bytes(8, "big") + key)
    for audience in profile.memberships:
        if is_inside(profile, audience):
            strike(state, profile.id, audience)
    state.put(PROFILES, key, _tombstone(profile, order.survivor))
    state.add("profiles", -1)
    state.out("delivery", order.loser, Moved(order.loser, order.survivor))
    state.out("profile", order.survivor,
              Hand(order.survivor, profile, conditions, running, order.message_id))


def take_over(state: State, hand: Hand) -> None:
    """Unite what was handed over with one's own; tell what that changed (identity 6)."""
    now_ms = state.at_ms
    key = hand.survivor.encode()
    found = state.get(PROFILES, key)
    assert found is not None, f"the surviving profile {hand.survivor} is unknown"
    survivor, loser = _present(state, found), hand.profile
    plan = state.definitions.plan
    conditions = Conditions(state, survivor)
    rows = (*loser.leaves.items(), *hand.conditions)
    for leaf, row in rows:
        united = unite(plan, leaf, conditions.get(leaf), row)
        if united is not None:
            conditions.put(leaf, united)
    ids = tuple(sorted((*survivor.ids, *loser.ids),
                       key=lambda id: (id.created_at_ms, id.type, id.value)))
    results = unite_results(plan, survivor, loser, ids, [leaf for leaf, _ in rows])
    first = min(survivor, loser, key=lambda one: one.created_at_ms)
    last = max(survivor, loser, key=lambda one: one.updated_at_ms)
    profile = replace(
        survivor,
        created_at_ms=first.created_at_ms,
        first_message_id=first.first_message_id,
        first_source=first.first_source,
        updated_at_ms=last.updated_at_ms,
        last_message_id=last.last_message_id,
        last_source=last.last_source,
        ids=ids,
        traits=traits.unite(survivor.traits, loser.traits),
        computed=results.computed,
        memberships=results.memberships,
        flips=results.flips,
        links=tuple(sorted({*survivor.links, *loser.links})),
        absorbed=(*survivor.absorbed, loser.id, *loser.absorbed),
    )
    for audience in profile.memberships:
        if is_inside(profile, audience) and not is_inside(survivor, audience):
            enlist(state, profile, audience)
    profile = settle_person(
        state, profile, results.touched, now_ms, results.announce, conditions
    )
    mine = state.get(RUNNING, key)
    if mine is not None or hand.journeys is not None:
        outcome = moves.unite(
            state.definitions.journeys,
            mine,
            hand.journeys,
            occurrences(state, survivor),
            occurrences(state, loser),
            View(profile, survivor),
            now_ms,
        )
        profile = moved(state, profile, outcome)
    store(state, found, profile)


def _present(state: State, profile: Profile) -> Profile:
    if profile.definitions != state.definitions.number:
        profile = up_to_date(state, profile)
    if profile.armed_ms and profile.armed_ms < state.at_ms:
        profile = fire(state, profile, state.at_ms)
    return profile


def _tombstone(profile: Profile, survivor: str) -> Profile:
    return Profile(
        profile.id, profile.collection, profile.created_at_ms, profile.updated_at_ms,
        profile.first_message_id, profile.first_source, profile.last_message_id,
        profile.last_source, survivor=survivor,
    )
