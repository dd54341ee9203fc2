"""Instants in and out."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.timestamps import MAX_MS, MIN_MS, corrected, iso, parse, stored, within

NINE = 1_767_603_600_000
"""2026-01-05T09:00:00.000Z"""


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-05T09:00:00.000Z", NINE),
        ("2026-01-05T09:00:00Z", NINE),
        ("2026-01-05T09:00:00z", NINE),
        ("2026-01-05T09:00:00.123+00:00", NINE + 123),
        ("2026-01-05T10:30:00.123+01:30", NINE + 123),
        ("2026-01-05T10:00:00+01", NINE),
        ("2026-01-05T10:00:00+0100", NINE),
        ("2026-01-05T04:00:00-05:00", NINE),
        ("2026-01-05T09:00:00.1Z", NINE + 100),
        ("2026-01-05T09:00:00.123456Z", NINE + 123),
        ("2026-01-05T09:00:00.1239999Z", NINE + 123),
        ("2026-01-05T09:00:00.123456789Z", NINE + 123),
        ("2026-01-05T10:00:00.1234567+01:00", NINE + 123),
        ("2026-01-05 09:00:00.123Z", NINE + 123),
        ("2026-01-05 09:00:00 +00:00", NINE),
        ("2026-1-5T9:00:00Z", NINE),
        ("2026-1-5T9:0:0.5Z", NINE + 500),
        ("2026-01-05T09:00:00", NINE),
        ("2026-01-05T09:00", NINE),
        ("2026-01-05", NINE - 9 * 3_600_000),
        ("2015-2-02T00:30:08.276Z", 1_422_837_008_276),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00Z", MIN_MS),
        ("9999-12-31T23:59:59.999999Z", MAX_MS),
    ],
)
def test_collect_C31_forms_that_clients_send(text, ms):
    assert parse(text) == ms
    assert parse(stored(text, ms)) == ms
    assert len(stored(text, ms)) == 24


@pytest.mark.parametrize(
    "value",
    [None, 0, NINE, 1.5, True, [], {}, b"2026-01-05T09:00:00Z", "", " ", "now", "Z", "2026",
     "2026-02-30T00:00:00Z", "2026-01-05T25:00:00Z", "2026-01-05T09:60:00Z", "2026-13-05",
     "2026-01-05T09:00:00+99:00", "٢٠٢٦-01-05T09:00:00Z", "2026-01-05T09:00:00Z ", "1" * 10_000,
     "20260105T09:00:00.000Zx", "20260105", "2026-01-05x09:00:00Z",
     "2026-01-05_09:00", "-2026-01-05T09:00:00Z", "10000-01-01T00:00:00Z", "\x00", "\ud800"],
)  # fmt: skip
def test_collect_C31_anything_else_is_no_instant(value):
    assert parse(value) is None


@given(st.integers(MIN_MS, MAX_MS))
def test_collect_C31_what_is_stored_reads_back(ms):
    text = iso(ms)
    assert len(text) == 24
    assert text[23] == "Z"
    assert parse(text) == ms
    assert stored(text, ms) is text
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert text == at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@given(st.text() | st.from_regex(r"[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}[T ][0-9:.+Zz-]{0,24}"))
def test_collect_C31_no_text_breaks_it_and_what_is_read_is_stored_whole(text):
    ms = parse(text)
    if ms is not None:
        kept = stored(text, ms)
        assert len(kept) == 24
        assert parse(kept) == within(ms)


INSTANTS = st.integers(MIN_MS, MAX_MS)


@given(INSTANTS, st.none() | INSTANTS, INSTANTS)
def test_collect_C32_spans_are_kept_and_the_result_can_be_written(received, sent, original):
    at = corrected(received, sent, original)
    assert MIN_MS <= at <= MAX_MS
    if sent is None:
        assert at == original
    elif MIN_MS < at < MAX_MS:
        assert received - at == sent - original
