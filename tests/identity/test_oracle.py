"""The stages against the plain oracle, on random histories in a small world of ids."""

from hypothesis import given, settings
from hypothesis import strategies as st

from identity.match import Node, match, profile_id, survivor
from identity.settings import compile_settings
from tests.identity.graph import DAY, START, Graph, call
from tests.identity.graph import settings as identity_settings
from tests.identity.oracle import Oracle

TYPES = {"u": "user_id", "e": "email", "a": "anonymous_id", "ga": "ga_client_id"}
VALUES = st.integers(1, 5)
EXTRA = st.tuples(st.sampled_from(["email", "anonymous_id", "kit"]), VALUES)
PERIODS = st.sampled_from(["ever", "ever", "weekly", "daily"])

EVENTS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(sorted(TYPES)), VALUES, max_size=4),
        st.lists(EXTRA, max_size=3),
        st.sampled_from([0, 1, DAY // 2, DAY, 7 * DAY]),
    ).filter(lambda one: one[0] or one[1]),
    max_size=25,
)
LIMITS = st.dictionaries(
    st.sampled_from([*TYPES.values(), "kit"]), st.tuples(st.integers(1, 3), PERIODS), max_size=4
)
CAPS = st.sampled_from([(100, 1000), (1, 6), (2, 8)])
RULES = st.tuples(LIMITS, st.booleans(), CAPS)
"""Limits, whether demotion is targeted, the system's own limits."""
ORDERS = st.sampled_from([("user_id", "email"), ("email",), ("kit", "anonymous_id", "user_id")])


@settings(max_examples=400, deadline=None)
@given(EVENTS, RULES, RULES, st.integers(0, 25), ORDERS, st.booleans())
def test_identity_s5_the_stages_decide_as_the_text_says(events, rules, later, change, order, links):
    """Settings change before the event of number ``change``, which may be after all of them."""
    oracle = Oracle(order)
    space = Graph(links=links)
    now = 0
    for number, (named, extra, wait) in enumerate(events):
        now += wait
        if number in (0, change):
            limits, targeted, caps = later if number == change else rules
            oracle.limits, oracle.targeted = limits, targeted
            oracle.merge_cap, oracle.mapping_cap = caps
            space.define(
                order=list(order),
                demotion="targeted" if targeted else "strict",
                types={type: {"limit": limit, "per": per}
                       for type, (limit, per) in limits.items()},
            )  # fmt: skip
            chosen = space.state.definitions.identity
            chosen.most_merges, chosen.most_mappings = caps
        entries = [
            {"id": f"{type[0]}{n}", "type": type, "collection": "users", "encoding": "none"}
            for type, n in extra
        ]
        short = {key: f"{TYPES[key][0]}{n}" for key, n in named.items()}
        space.state.at_ms = START + now
        got = space.send(
            call("identify", **short, messageId=f"m{number:03}", context={"externalIds": entries})
        )
        ids = list(dict.fromkeys(
            [(TYPES[key], short[key]) for key in ("u", "a", "e", "ga") if key in short]
            + [(type, f"{type[0]}{n}") for type, n in extra]
        ))  # fmt: skip
        want = oracle.event(
            ids, START + now,
            lambda best, number=number: profile_id("use_", "default", f"m{number:03}", best),
        )  # fmt: skip
        assert got.profile == want["profile"]
        # By the fast path two ids of one type may stand in the order of the grant.
        assert sorted(got.used) == sorted(want["used"])
        assert list(got.arrive.demoted) == want["demoted"]
        assert list(got.merged) == want["lost"]
        if want["demoted"]:
            assert [set(one.violations) for one in space.log()[-1].passes] == want["kinds"]
    space.consistent()
    assert {
        name: (one["born"], one["merges"], one["ids"]) for name, one in oracle.profiles.items()
    } == {
        name: (node.created_at_ms, len(node.absorbed),
               {(t, v): at for t, values in node.members.items() for v, at in values.items()})
        for name, node in space.nodes().items()
    }  # fmt: skip
    for lost in oracle.redirects:
        last = lost
        while last in oracle.redirects:
            last = oracle.redirects[last]
        assert space.now(lost) == last


PROFILES = st.lists(
    st.tuples(
        st.dictionaries(
            st.sampled_from(["user_id", "email", "kit"]),
            st.lists(st.sampled_from([0, DAY, 6 * DAY, 7 * DAY]), min_size=1, max_size=3),
            min_size=1,
        ),
        st.sampled_from([0, 0, 1, 2]),
    ),
    max_size=4,
)
"""Profiles as they may have come to be under any settings: type -> ages of its values; merges."""


@settings(max_examples=1000, deadline=None)
@given(PROFILES, st.data(), RULES, ORDERS)
def test_identity_s5_one_event_among_any_profiles(profiles, data, rules, order):
    limits, targeted, caps = rules
    oracle = Oracle(order)
    oracle.limits, oracle.targeted = limits, targeted
    oracle.merge_cap, oracle.mapping_cap = caps
    nodes, owners = {}, {}
    for number, (ages, merges) in enumerate(profiles):
        name = f"p{number}"
        ids = {(type, f"{name}{place}"): START - age
               for type, all in ages.items() for place, age in enumerate(all)}  # fmt: skip
        oracle.profiles[name] = {"born": START - number, "merges": merges, "ids": dict(ids)}
        members = {}
        for (type, value), at_ms in ids.items():
            members.setdefault(type, {})[value] = at_ms
        nodes[name] = Node(START - number, "m", next(iter(ids)), members, ("x",) * merges)
        owners |= dict.fromkeys(ids, name)
    known = st.sampled_from(sorted(owners)) if owners else st.nothing()
    new = st.tuples(st.sampled_from(["user_id", "email", "kit"]), st.sampled_from(["n1", "n2"]))
    ids = data.draw(st.lists(known | new, min_size=1, max_size=7, unique=True))

    mapped = {id: owners[id] for id in ids if id in owners}
    chosen = compile_settings(identity_settings(
        order=list(order), demotion="targeted" if targeted else "strict",
        types={type: {"limit": limit, "per": per} for type, (limit, per) in limits.items()},
    ))  # fmt: skip
    chosen.most_merges, chosen.most_mappings = caps
    got = match(ids, mapped, {name: nodes[name] for name in mapped.values()}, chosen, START)
    want = oracle.event(ids, START, lambda best: "new")
    assert list(got.used) == want["used"]
    assert list(got.demoted) == want["demoted"]
    assert [set(one.violations) for one in got.passes] == want["kinds"]
    target = survivor({name: nodes[name] for name in got.profiles}) if got.profiles else "new"
    assert (target, sorted(got.profiles)) == (
        want["profile"], sorted({*want["lost"], *({target} - {"new"})}))  # fmt: skip


def test_identity_s5_an_event_of_hundreds_of_ids_is_decided_at_once():
    for demotion in ("strict", "targeted"):
        space = Graph(demotion=demotion)
        entries = [
            {"id": f"k{n}", "type": "kit", "collection": "users", "encoding": "none"}
            for n in range(500)
        ]
        last = space.identify(u="u1", context={"externalIds": entries})
        assert len(last.used) == 6
        assert last.profile == space.of("u1")
