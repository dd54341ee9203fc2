"""What is left out of an event that is read in part."""

import msgspec
import pytest
from msgspec.structs import replace

from agents.definitions import EMPTY, compile_definitions
from agents.records import Define
from events.event import Event, seen
from events.reading import brief, whole
from profiles import traits
from tests.stages import MemoryState
from workspace.definitions import digest, load, normal_form

CALL = {
    "type": "page", "messageId": "m", "anonymousId": "a", "userId": "u", "name": "Home",
    "properties": {"n": 1}, "traits": {"plan": "pro"}, "integrations": {"All": True},
    "context": {"page": {"path": "/"}, "traits": {"email": "e"}}, "timestamp": "2026-01-01",
}  # fmt: skip
WORKSPACE = """
version: 1
audiences:
  readers:
    where: {{performed: {{event: Read, at_least: 1, where: {{{path}: {{equals: x}}}}}}}}
"""


def test_events_s2_an_event_read_in_part_is_the_same_but_for_its_context():
    body = msgspec.json.encode(CALL)
    full, part = (
        Event("web", "m", "page", 1, 1, 1, body, read(body)) for read in (whole, brief)
    )
    assert replace(seen(full), context={}) == replace(seen(part), context={})
    identify = [replace(one, type="identify") for one in (full, part)]
    assert traits.merge({}, identify[0]) == traits.merge({}, identify[1])
    assert full.data["context"] == CALL["context"]
    assert part.data["context"] == {"traits": {"email": "e"}}


def test_events_s2_a_context_that_is_no_object_is_read_as_it_is():
    assert brief(b'{"type":"track","context":[1]}') == {"type": "track", "context": [1]}


@pytest.mark.parametrize(
    ("path", "read"),
    [("category", brief), ("context.page.path", whole), (r"c\\ontext.page.path", whole)],
)
def test_events_s2_events_are_read_whole_when_a_condition_may_look_into_the_context(path, read):
    definitions, problems = load([("w.yaml", WORKSPACE.format(path=path).encode())])
    assert definitions is not None, problems
    body = normal_form(definitions)
    state = MemoryState(EMPTY)
    compiled = compile_definitions(state, Define(body, digest(body), "test"), 1)
    assert compiled.decode is read
