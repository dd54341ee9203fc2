"""The benchmark runs, and its files are what it says: the smallest sizes, no figure is judged."""

import json

from bench import delivered, report
from bench.row import bounded, compared, judged, percentile

KEYS = ["name", "value", "unit", "limit", "ratio", "goal", "met"]


async def test_both_sides_take_the_same_events_and_all_messages_arrive(tmp_path):
    row = await delivered.compare(tmp_path / "data", warm=300, events=1_000, rounds=1)
    assert row.unit == "events/s"
    assert row.value > 0
    assert row.limit is not None
    assert row.limit > 0
    assert row.ratio == row.value / row.limit
    assert row.goal == ">= 0.7"


def test_the_table_is_written_for_programs_people_and_eyes(tmp_path):
    rows = [
        compared("in turn", "events/s", [(70.0, 100.0), (90.0, 100.0), (80.0, 100.0)], ">= 0.7"),
        bounded("within", 300.0, "ms", 250.0, ("p50 3 ms",)),
        judged("no goal", 12345.6, "events/s", None, None, None),
    ]
    report.write(rows, report.machine(tmp_path, quick=True), tmp_path / "results")
    written = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert list(written) == ["rows", "machine"]
    assert [list(row) for row in written["rows"]] == [KEYS] * 3
    first, second, third = written["rows"]
    assert first == {"name": "in turn", "value": 80.0, "unit": "events/s", "limit": 100.0,
                     "ratio": 0.8, "goal": ">= 0.7", "met": True}
    assert (second["ratio"], second["goal"], second["met"]) == (1.2, "<= 1", False)
    assert (third["limit"], third["goal"], third["met"]) == (None, None, None)
    assert written["machine"]["quick"] is True
    text = (tmp_path / "results" / "latest.md").read_text()
    assert "| in turn | 80.0 events/s | 100 | 0.80 | >= 0.7 | met |" in text
    assert "| within | 300 ms | 250 | 1.20 | <= 1 | **missed** |" in text
    assert "- p50 3 ms" in text
    assert (tmp_path / "results" / "latest.png").read_bytes().startswith(b"\x89PNG")


def test_a_percentile_is_not_exceeded_by_so_many():
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 50) == 51
    assert percentile(values, 99) == 100
    assert percentile([7.0], 99) == 7
