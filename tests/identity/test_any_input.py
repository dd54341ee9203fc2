"""Whatever stands where an identifier may be, extraction and the gates give an answer."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events.reading import brief, whole
from identity.extract import account_of, candidates, gate, routing_id, trace
from identity.settings import compile_settings
from tests.identity.graph import settings

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
SCALARS |= st.sampled_from(["ios", "android", "users", "none", "email", "phone", "+1 5", "a\0b"])
KEYS = st.sampled_from([
    "email", "id", "type", "collection", "encoding", "clientId", "token", "advertisingId",
    "adTrackingEnabled", "braze_id", "crossDomainId", "groupId", "Personas", "loyaltyId",
    "traits", "device", "integrations", "externalIds", "Google Analytics", "Braze", "context",
])  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
CALLS = st.dictionaries(
    st.sampled_from([
        "userId", "anonymousId", "groupId", "previousId", "traits", "properties", "context",
        "integrations", "timestamp", "cross_domain_id",
    ]),
    JSON,
)  # fmt: skip
TYPES = st.sampled_from(["identify", "track", "page", "screen", "group", "alias"])
CHOICES = [
    compile_settings(settings()),
    compile_settings(settings(
        types={"braze_id": {}, "cross_domain_id": {}, "loyalty_id": {"normalize": "phone"}},
        blocked={"all": [{"regex": "a"}]}, suggested=False,
    )),
]  # fmt: skip


@given(CALLS, TYPES, st.sampled_from(CHOICES))
def test_identity_s2_extraction_never_raises(data, type, chosen):
    found = candidates(data, type, chosen)
    assert len(set(found)) == len(found)
    for name, value in found:
        assert name and value
        assert value == value.strip()
        assert name == name.lower()
        assert not chosen.kind(name).blocks(value)
    assert (routing_id(data, found) is None) == (not found)
    assert len(account_of(data, type)) <= 500
    gate(data, type, chosen)
    for id, raw in trace(data, type, chosen).raw.items():
        assert id in found
        assert chosen.normalised(id[0], raw) == id[1]


@given(CALLS, TYPES, st.sampled_from(CHOICES))
def test_identity_s2_an_event_read_in_part_carries_the_same_identifiers(data, type, chosen):
    body = msgspec.json.encode(data)
    full, part = whole(body), brief(body)
    for ask in (candidates, gate, trace):
        assert ask(part, type, chosen) == ask(full, type, chosen)
    assert account_of(part, type) == account_of(full, type)
