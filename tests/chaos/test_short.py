"""A short form of `make chaos`: a few kills, some power cuts, and bugs that these must find."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from app import steps
from tables.store import Row
from tests.blackbox.process import ROOT
from tests.chaos import kills, powercuts
from tests.chaos.powercuts import Forgetful
from tests.cluster import chaos as on_kafka
from transport.log import Log


def test_chaos_a_few_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path):
    places = ("header.rename", "log.synced", "committed", "sent", "base.noted", "random")
    run = kills.Kills(tmp_path / "chaos", 7, size=4, sdk=False, say=lambda _: None)
    verdict = run.run(places)
    assert verdict.faults == []
    assert sum(run.killed.values()) == len(places)
    assert verdict.accepted == verdict.applied > 500


def test_chaos_power_cuts_lose_nothing_that_was_answered():
    cuts, answered, faults = powercuts.cut(range(20))
    assert faults == []
    assert cuts == 100
    assert answered > 200


def test_chaos_every_step_in_the_code_is_named_and_every_name_is_killed_at():
    used = set()
    for room in ("app", "runtime", "transport"):
        for file in (ROOT / room).rglob("*.py"):
            used.update(re.findall(r'\bstep\("([a-z.]+)"\)', file.read_text()))
    assert used == set(steps.STEPS)
    struck = {name for names in (kills.BUSY, kills.SELDOM, kills.BASES, kills.STOPS,
                                 kills.REBUILDS, kills.CUTS, kills.OTHERS,
                                 on_kafka.STEPS) for name in names}
    assert used - struck == set()


def test_chaos_a_step_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"there is no step log\.sunk"):
        steps._parse("committed:2,log.sunk")
    assert steps._parse("committed:2, segment.torn") == {"committed": 2, "segment.torn": 1}


# ---- planted bugs --------------------------------------------------------------------------------
def answers_before_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flush(self: Log, epoch: int | None = None) -> None:
        self.rounds += 1
        if self.rounds % 3 == 0:
            self.flush_inline()

    monkeypatch.setattr(Log, "flush", flush)


def writes_half_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Forgetful.write

    def torn(self: Forgetful, puts: Iterable[Row], deletes: Iterable[bytes]) -> None:
        puts = list(puts)
        write(self, puts[: len(puts) // 2], [])
        write(self, puts[len(puts) // 2 :], deletes)

    monkeypatch.setattr(Forgetful, "write", torn)


def forgets_to_catch_the_archive_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powercuts, "catch_up", lambda *_: None)


@pytest.mark.parametrize("plant", [
    answers_before_it_is_durable, writes_half_a_batch, forgets_to_catch_the_archive_up,
])
def test_chaos_planted_bugs_are_found_by_power_cuts(monkeypatch, plant):
    plant(monkeypatch)
    _, _, faults = powercuts.cut(range(200))
    assert faults
