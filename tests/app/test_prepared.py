"""Events made ready an envelope at a time, against the same events handled one by one."""

from itertools import islice

import msgspec

from agents import intake
from agents.definitions import EMPTY, compile_definitions
from agents.definitions import TABLES as DEFINITION_TABLES
from agents.records import Define, Received
from app.engine import STAGES
from app.kinds import KINDS
from bench.make_workspace import WRITE_KEY, write
from bench.people import events
from runtime.envelope import Codec, pack
from runtime.fused import Runner
from runtime.stage import Stage
from tables.store import MemoryStore
from workspace.definitions import digest, load, normal_form

START_MS = 1_767_614_400_000
PLAIN = Stage(intake.STAGE.name, intake.STAGE.handlers, intake.STAGE.tables)


def state_after(stages, definitions, envelopes):
    store = MemoryStore()
    runner = Runner(store, "f" * 32, stages, KINDS, compile_definitions,
                    tables=DEFINITION_TABLES, first=EMPTY)
    body = normal_form(definitions)
    runner.apply(0, pack("define", START_MS, [Define(body, digest(body), "test")]))
    for offset, (at_ms, items) in enumerate(envelopes, 1):
        runner.apply(offset, pack("event", at_ms, items))
        runner.commit()
    return list(store.scan(b"", b"\xff"))


def test_collect_C33_an_envelope_made_ready_at_once_leaves_the_state_of_its_events_one_by_one(
    tmp_path,
):
    write(tmp_path, "http://127.0.0.1:9/")
    definitions, problems = load([("w.yaml", (tmp_path / "bench.yaml").read_bytes())])
    assert definitions is not None, problems
    assert WRITE_KEY in str(definitions.sources)
    made = events(3, 60, 1_500, START_MS)
    made = [
        {**call, "integrations": {"Personas": False}} if number % 40 == 7 else
        {key: value for key, value in call.items() if key != "anonymousId"} if number % 40 == 9
        else call
        for number, call in enumerate(made)
    ]  # fmt: skip
    envelopes = []
    calls = iter(made)
    while group := list(islice(calls, 50)):
        at_ms = START_MS + len(envelopes) * 1_000
        envelopes.append((at_ms, [
            Received("web", str(call["messageId"]), at_ms, at_ms, msgspec.json.encode(call))
            for call in group
        ]))
    found = state_after(STAGES, definitions, envelopes)
    plain = [PLAIN if stage is intake.STAGE else stage for stage in STAGES]
    assert found == state_after(plain, definitions, envelopes)
    assert len(found) > 1_500


def test_engine_a_record_of_a_log_written_before_this_release_is_read() -> None:
    """Events had an empty sixth field then."""
    value = msgspec.msgpack.encode((1, "event", 7, [("web", "m1", 7, 6, b"{}", None)]))
    (item,) = Codec({"event": Received}).unpack(value, None).items
    assert item == Received("web", "m1", 7, 6, b"{}")
