"""What attackers and broken senders put on the wire: a clear answer, neighbours unharmed."""

import asyncio
import contextlib
import gc
import gzip
import json
import logging
import socket
import time
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.web import answers, bodies, listener
from events import wire
from events.calls import Refused
from tests.collect.standin import MOBILE, SERVER, TRACK, WEBSITE, Api, basic, post

GOOD = json.dumps({"type": "track", **TRACK}).encode()
MIB = 1024 * 1024


def call(value: str | bytes) -> bytes:
    """Return a call with a property of this JSON text."""
    text = value.encode() if isinstance(value, str) else value
    return b'{"type":"track","event":"A","userId":"u","properties":{"p":' + text + b"}}"


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + "0" * (opening != "[") + closing * depth


# ---- values that cannot be kept ------------------------------------------------------------------
UNKEEPABLE = [
    nested(63),
    nested(63, '{"a":', "}"),
    "1e400",
    "-1e400",
    "9" * 30,
    "-9223372036854775809",
    "18446744073709551616",
    "9" * 6000,
    "1" * 6000 + ".0",
    r'"\ud800"',
    r'"\ud800x"',
    r'"\udc00"',
    r'"\uDFFF\uD800"',
    r'{"\ud800":1}',
]


@pytest.mark.parametrize("value", UNKEEPABLE, ids=lambda text: text[:24])
async def test_collect_s5_what_cannot_be_kept_is_refused_and_its_neighbours_are_not(api, value):
    assert await api.refused("/v1/track", call(value)) == "bad_request"
    answer = await api.send("/v1/batch", b'{"batch":[%s,%s,%s]}' % (GOOD, call(value), GOOD))
    assert answer.success
    assert len(api.intake.events) == 2
    assert api.refusals.by_reason() == {"bad_request": 2}


KEEPABLE = [
    nested(62), nested(61, '{"a":', "}"), "18446744073709551615", "-9223372036854775808", "1e308",
    "1e-400", "0." + "1" * 400, '"' + "9" * 400 + '"', r'"\u0000"', r'"\ud83d\ude00"', "-0",
    r'"\\ud800"', r'"\uffff\ufdd0"', '"' + "[" * 500 + '"', json.dumps(["{}"] * 100),
    json.dumps([{"a": [1]}] * 100),
]  # fmt: skip


@pytest.mark.parametrize("value", KEEPABLE, ids=lambda text: text[:24])
async def test_collect_s5_what_can_be_kept_is_kept(api, value):
    event = await api.accepted("/v1/track", call(value))
    assert event["properties"] == {"p": json.loads(value)}
    event = await api.accepted("/v1/batch", b'{"batch":[%s]}' % call(value))
    assert event["properties"] == {"p": json.loads(value)}


@pytest.mark.parametrize(
    "value",
    [b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b"1.", b".5", b"0x10", b'"\x00"', b'"a\nb"',
     b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\x41"', b'"\\u12"', b"'a'", b"undefined",
     b"//", b"1,", b'"\\ud800', b'"\\ud800\xff"'],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch"])
async def test_collect_C22_what_is_no_json(api, path, value):
    body = call(value) if path == "/v1/track" else b'{"batch":[%s,%s]}' % (GOOD, call(value))
    answer = await api.send(path, body)
    assert answer.status == 400
    assert answer.json["code"] == "malformed_json"
    assert not api.intake.appends


@pytest.mark.parametrize(
    "body", [b"\xef\xbb\xbf" + GOOD, GOOD.decode().encode("utf-16"), b"\x00" + GOOD, GOOD + b"\x00"]
)
async def test_collect_C22_byte_order_marks_and_other_encodings(api, body):
    assert (await api.send("/v1/track", body)).status == 400


async def test_collect_s5_of_equal_keys_the_last_counts_everywhere(api):
    body = b'{"event":"A","userId":"u1","userId":"u2","writeKey":"x","writeKey":"wk_mobile_1"}'
    event = await api.accepted("/v1/track", body, None)
    assert (event["userId"], event["projectId"]) == ("u2", "phone")


@pytest.mark.parametrize(
    "shared", ['{"a":' + nested(64) + "}", '{"a":1e400}', '{"a":' + "9" * 30 + "}"]
)
async def test_collect_C26_a_shared_context_that_cannot_be_kept_refuses_all(api, shared):
    answer = await api.send("/v1/batch", b'{"batch":[%s],"context":%s}' % (GOOD, shared.encode()))
    assert answer.success
    assert api.refusals.by_reason() == {"bad_request": 1}


async def test_collect_s5_hostile_strings_are_only_data(api, caplog):
    caplog.set_level(logging.DEBUG)
    hostile = "\r\n2026-01-01 INFO forged \x1b[31m <script>alert(1)</script> ' OR 1=1 \u202e {{7}}"
    body = {"event": hostile, "userId": hostile, "messageId": hostile, "context": {"ip": hostile}}
    event = await api.accepted("/v1/track", body)
    assert event["event"] == event["userId"] == event["context"]["ip"] == hostile
    await api.refused("/v1/track", {"event": {hostile: 1}, "userId": "u"})
    await api.refused("/v1/batch", {"batch": [{"type": hostile}]})
    answer = await api.send("/v1/track", hostile.encode())
    assert b"forged" not in answer.body
    assert "forged" not in caplog.text
    assert not any("forged" in str(key) for key in api.refusals.calls)


# ---- bombs --------------------------------------------------------------------------------
def bombs():
    deep = 1_000_000
    return {
        "gzip to 1 GiB": ("/v1/batch", _pressed(1024), "gzip"),
        "gzip in gzip": ("/v1/batch", gzip.compress(gzip.compress(GOOD)), "gzip"),
        "gzip, gzip": ("/v1/batch", gzip.compress(gzip.compress(GOOD)), "gzip, gzip"),
        "broken gzip": ("/v1/track", gzip.compress(GOOD)[:-12] + b"x" * 12, "gzip"),
        "cut gzip": ("/v1/track", gzip.compress(GOOD)[:-5], "gzip"),
        "empty gzip": ("/v1/track", b"", "gzip"),
        "no gzip": ("/v1/track", b"plain", "gzip"),
        "garbage after gzip": ("/v1/track", gzip.compress(GOOD) + b"garbage", "gzip"),
        "depth a million": ("/v1/batch", b"[" * deep, ""),
        "depth 200,000": ("/v1/batch", b'{"batch":[' + b"[" * 200_000 + b"]" * 200_000 + b"]}", ""),
        "depth in a field": ("/v1/batch", b'{"x":' + b'{"a":' * 80_000 + b"0" + b"}" * 80_001, ""),
        "depth in a call": ("/v1/track", call(nested(15_000)), ""),
        "a million keys": ("/v1/batch", gzip.compress(b'{"batch":[{' + b",".join(
            b'"k%d":0' % n for n in range(1_000_000)) + b"}]}", 1), "gzip"),
        "50,000 keys": ("/v1/batch", b'{"batch":[{' + b",".join(
            b'"%x":0' % n for n in range(50_000)) + b"}]}", ""),
        "a digit a million times": ("/v1/batch", b'{"batch":[' + b"9" * 1_000_000 + b"]}", ""),
        "500,000 digits": ("/v1/batch", b'{"sentAt":' + b"9" * 500_000 + b',"batch":[]}', ""),
        "32,000 digits": ("/v1/track", call("9" * 32_000), ""),
        "100,000 items": ("/v1/batch", b'{"batch":[' + b"{}," * 99_999 + b"{}]}", ""),
        "250,000 numbers": ("/v1/batch", b'{"batch":[' + b"1," * 249_999 + b"1]}", ""),
        "half emojis": ("/v1/batch", b'{"batch":["' + rb"\ud800" * 85_000 + b'"]}', ""),
        "half emojis in calls": ("/v1/batch", b'{"batch":[' + b",".join(
            [call(r'"\ud800"')] * 6000) + b"]}", ""),
        "many brackets": ("/v1/batch", b'{"batch":[' + b",".join(
            [call("[" + "[]," * 10_000 + "[]]")] * 16) + b"]}", ""),
        "long numbers": ("/v1/batch", b'{"batch":[' + b",".join(
            [call("[" + "1," * 15_000 + "1" + "0" * 18 + "]")] * 16) + b"]}", ""),
    }  # fmt: skip


def _pressed(mib: int) -> bytes:
    press = zlib.compressobj(9, wbits=31)
    return b"".join(press.compress(b" " * MIB) for _ in range(mib)) + press.flush()


BOMBS = bombs()


@pytest.fixture
def settled():
    """What was built stays out of garbage collections, as in the worker."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("name", BOMBS)
async def test_collect_C10_C14_C15_bombs_cost_little(api, name):
    path, body, encoding = BOMBS[name]
    headers = {"Content_Encoding": encoding} if encoding else {}
    await api.send("/v1/track", GOOD)
    began = time.process_time()
    answer = await api.send(path, body, **headers)
    took = time.process_time() - began
    assert answer.status in (200, 400), answer
    assert answer.json
    # the limit is 0.1 s; of CPU, and with the client's: a busy machine may take long for nothing
    assert took < 0.3, took
    tracemalloc.start()
    await api.send(path, body, **headers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - len(body) * 2 < 32 * MIB
    assert (await api.accepted("/v1/track", GOOD))["event"] == TRACK["event"]


def test_collect_C10_inflating_stops_at_the_limit():
    tracemalloc.start()
    with pytest.raises(bodies.Fault):
        bodies.inflate(BOMBS["gzip to 1 GiB"][1], 500 * 1024)
    assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    tracemalloc.stop()
    many = gzip.compress(b"") * 20_000 + gzip.compress(b"x")
    assert bodies.inflate(many[-2000:][many[-2000:].index(b"\x1f\x8b"):], 100) == b"x"


# ---- HTTP --------------------------------------------------------------------------------
SMUGGLED = post("/v1/track", b"", "Content-Length: 0").replace(b"/v1/track", b"/v1/smuggled")
CHUNK = b"%x\r\n%s\r\n" % (len(GOOD), GOOD)
ODDITIES = {
    "two lengths": post("/v1/track", GOOD, f"Content-Length: {len(GOOD)}", "Content-Length: 3"),
    "length list": post("/v1/track", GOOD, f"Content-Length: {len(GOOD)}, {len(GOOD)}"),
    "length and chunked": post(
        "/v1/track", b"0\r\n\r\n" + SMUGGLED, "Content-Length: 5", "Transfer-Encoding: chunked"
    ),
    "negative length": post("/v1/track", GOOD, "Content-Length: -5"),
    "length with a plus": post("/v1/track", GOOD, f"Content-Length: +{len(GOOD)}"),
    "length of letters": post("/v1/track", GOOD, "Content-Length: abc"),
    "huge length": post("/v1/track", GOOD, "Content-Length: " + "9" * 40),
    "64 KB header": post("/v1/track", GOOD, "X: " + "x" * 65536, f"Content-Length: {len(GOOD)}"),
    "10,000 headers": post(
        "/v1/track", GOOD, *(f"X-{n}: y" for n in range(10_000)), f"Content-Length: {len(GOOD)}"
    ),
    "obs-fold": post("/v1/track", GOOD, "X: a\r\n b", f"Content-Length: {len(GOOD)}"),
    "space before the colon": post("/v1/track", GOOD, f"Content-Length : {len(GOOD)}"),
    "no colon": post("/v1/track", GOOD, "Nonsense", f"Content-Length: {len(GOOD)}"),
    "NUL in a header": post("/v1/track", GOOD, "X: a\x00b", f"Content-Length: {len(GOOD)}"),
    "NUL in the path": post("/v1/tr\x00ack", GOOD, f"Content-Length: {len(GOOD)}"),
    "space in the path": post("/v1/tr ack", GOOD, f"Content-Length: {len(GOOD)}"),
    "long path": post("/v1/" + "x" * 70_000, GOOD, f"Content-Length: {len(GOOD)}"),
    "HTTP/0.9": b"GET /v1/track\r\n\r\n",
    "HTTP/3.7": post("/v1/track", GOOD, "Content-Length: 0").replace(b"HTTP/1.1", b"HTTP/3.7"),
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200 + b"\r\n\r\n",
    "bare line feeds": post("/v1/track", GOOD, "X: y").replace(b"\r\n", b"\n"),
    "bad chunk size": post("/v1/track", b"zz\r\n" + GOOD, "Transfer-Encoding: chunked"),
    "negative chunk": post("/v1/track", b"-5\r\n" + GOOD, "Transfer-Encoding: chunked"),
    "huge chunk": post("/v1/track", b"f" * 30 + b"\r\n" + GOOD, "Transfer-Encoding: chunked"),
    "two encodings": post("/v1/track", CHUNK, "Transfer-Encoding: chunked, identity"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODDITIES)
async def test_collect_s5_http_oddities_are_refused_and_say_nothing(api, name, caplog):
    caplog.set_level(logging.DEBUG)
    back = await api.raw(ODDITIES[name], seconds=2)
    assert b"smuggled" not in back
    statuses = [int(part[:3]) for part in back.split(b"HTTP/1.1 ")[1:]]
    assert all(400 <= status < 500 for status in statuses), back
    for word in (b"aiohttp", b"Traceback", b"site-packages", b".py", b"Python"):
        assert word not in back
    assert "Traceback" not in caplog.text
    assert not api.intake.appends
    assert (await api.send("/v1/track", GOOD)).success


async def test_collect_s5_oddities_that_are_allowed(api):
    length = f"Content-Length: {len(GOOD)}"
    trailers = b"%s0\r\nX-Trailer: y\r\n\r\n" % CHUNK
    for request in (
        post("http://x/v1/track", GOOD, length),
        post("/v1/track", trailers, "Transfer-Encoding: chunked", "Trailer: X-Trailer"),
        post("/v1/track?x=1", GOOD, length),
        post("/v1/track", GOOD, length).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ):
        before = len(api.intake.events)
        back = await api.raw(request, seconds=2)
        assert b" 200 OK" in back, (request, back)
        assert len(api.intake.events) == before + 1


async def test_collect_s5_pipelining_after_an_error_is_not_confused(api):
    length = f"Content-Length: {len(GOOD)}"
    back = await api.raw(
        post("/v1/track", b"{", "Content-Length: 1") + post("/v1/track", GOOD, length),
        seconds=2, answers=2,
    )
    assert [part[:3] for part in back.split(b"HTTP/1.1 ")[1:]] == [b"400", b"200"]
    assert len(api.intake.events) == 1


async def test_collect_s5_expect_continue(api):
    head = post("/v1/track", b"", f"Content-Length: {len(GOOD)}", "Expect: 100-continue")
    reader, writer = await asyncio.open_connection(api.host, api.port)
    writer.write(head)
    assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
    writer.write(GOOD)
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_collect_s5_an_unexpected_break_is_500_without_a_trace(api, caplog):
    api.intake.failures = [RuntimeError("secret /etc/passwd")]
    answer = await api.send("/v1/track", GOOD)
    assert answer.status == 500
    assert sorted(answer.json) == ["code", "message"]
    assert b"secret" not in answer.body
    assert "secret" in caplog.text
    assert (await api.send("/v1/track", GOOD)).success


# ---- slow --------------------------------------------------------------------------------
@pytest.fixture
async def hasty():
    one = Api(read_seconds=0.5)
    one.server_options = {"idle_seconds": 0.5, "linger_seconds": 0.2, "stuck_seconds": 0.5}
    async with one as running:
        yield running


@pytest.mark.parametrize(
    "half",
    [
        b"", b"POST /v1/tr", post("/v1/track", b"")[:-2],
        post("/v1/track", GOOD[:10], f"Content-Length: {len(GOOD)}"),
        post("/v1/track", CHUNK[:10], "Transfer-Encoding: chunked"),
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "half a chunk"],
)  # fmt: skip
async def test_collect_s5_what_does_not_arrive_is_closed(hasty, half):
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(hasty.host, hasty.port)
    writer.write(half)
    back = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert time.perf_counter() - began > 0.3
    if back:
        assert back.startswith(b"HTTP/1.1 408 ")
    assert (await hasty.send("/v1/track", GOOD)).success


async def test_collect_s5_a_dripping_body_is_closed(hasty):
    reader, writer = await asyncio.open_connection(hasty.host, hasty.port)
    writer.write(post("/v1/track", b"", f"Content-Length: {len(GOOD)}"))

    async def drip():
        for byte in GOOD * 100:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    back = b"HTTP/1.1 408 "
    # Who goes on dripping to a closed connection is told so by a reset, which may overtake the 408.
    with contextlib.suppress(ConnectionResetError):
        back = await asyncio.wait_for(reader.read(), 10)
    dripping.cancel()
    writer.close()
    assert back.startswith(b"HTTP/1.1 408 ")


async def test_collect_s5_who_never_reads_the_answers_is_cut_off(hasty):
    sender = socket.socket()
    sender.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sender, (hasty.host, hasty.port))
    request = post("/v1/track", GOOD, f"Content-Length: {len(GOOD)}") * 100
    loop = asyncio.get_running_loop()
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(20):
            while True:
                await loop.sock_sendall(sender, request)
                await asyncio.sleep(0)
    sender.close()
    assert (await hasty.send("/v1/track", GOOD)).success


async def test_collect_s5_the_times_that_hold_in_production():
    assert listener.IDLE_SECONDS <= 30
    assert listener.STUCK_SECONDS <= 30
    assert bodies.READ_SECONDS + listener.LINGER_SECONDS <= 30


async def test_collect_s5_a_thousand_half_requests_hinder_nobody(hasty):
    half = post("/v1/track", GOOD[:10], f"Content-Length: {len(GOOD)}")
    writers = []
    for n in range(1000):
        _, writer = await asyncio.open_connection(hasty.host, hasty.port)
        writer.write(half if n % 2 else b"POST /v1/track HT")
        writers.append(writer)
    began = time.perf_counter()
    assert (await hasty.send("/v1/track", GOOD)).success
    assert time.perf_counter() - began < 5
    async with asyncio.timeout(20):
        while len(hasty.runner.server.connections) >= 5:  # noqa: ASYNC110, the server tells nobody
            await asyncio.sleep(0.1)
    assert (await hasty.send("/v1/track", GOOD)).success
    for writer in writers:
        writer.close()


async def test_collect_s5_who_leaves_in_the_middle_leaves_nothing_behind(api, caplog):
    for half in (post("/v1/batch", GOOD[:20], "Content-Length: 400000"), b"POST / HT"):
        _, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(half)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
    await asyncio.sleep(0.1)
    assert (await api.send("/v1/track", GOOD)).success
    assert len(api.intake.events) == 1
    assert "Traceback" not in caplog.text


# ---- fuzz --------------------------------------------------------------------------------
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text(max_size=20) | st.sampled_from(["track", "page", "u1", "2026-01-05T09:00:00Z", ""]),
    lambda children: st.lists(children, max_size=4)
    | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["type", "action", "event", "userId", "anonymousId", "groupId", "previousId", "name",
     "category", "properties", "traits", "context", "integrations", "timestamp", "sentAt",
     "messageId", "channel", "writeKey", "batch", "version", "options"]
)  # fmt: skip
CALL = st.dictionaries(FIELDS, JSON, max_size=10)
BATCH = st.fixed_dictionaries(
    {"batch": st.lists(CALL | JSON, max_size=5)},
    optional={"context": JSON, "integrations": JSON, "sentAt": JSON, "writeKey": JSON},
)
PATHS = st.sampled_from(
    ["/v1/track", "/v1/i", "/v1/p", "/v1/screen", "/v1/g", "/v1/alias/", "/v1/batch", "/v1/b",
     "/v1/import"]
)  # fmt: skip
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"),
                 max_size=40)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Origin", "Content-Type", "Content-Encoding", "Authorization", "X-Retry-Count",
         "X-Forwarded-For", "Access-Control-Request-Headers", "User-Agent"]
    ),
    HEADER | st.sampled_from(
        ["gzip", "application/json", "text/plain", basic(SERVER), basic(WEBSITE), "Basic =",
         "Bearer x", "1", "https://shop.example.org"]
    ),
    max_size=4,
)  # fmt: skip
METHODS = st.sampled_from(["POST"] * 12 + ["GET", "OPTIONS", "PUT", "HEAD"])


def _mutate(data: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in cuts:
        place = at % (len(data) + 1)
        data = data[:place] + new + data[place + length :]
    return data


CUT = st.tuples(st.integers(0, 5000), st.integers(0, 5), st.binary(max_size=4))
CUTS = st.lists(CUT, max_size=3)


class Serving:
    """A tracking API in a loop of its own, kept between the examples of a fuzz test."""

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.api = Api()
        self.loop.run_until_complete(self.api.__aenter__())
        return self

    def __exit__(self, *_):
        self.loop.run_until_complete(self.api.__aexit__())
        self.loop.close()

    def send(self, path, body, method, headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        back = self.loop.run_until_complete(self._exchange(head + body))
        return int(back[9:12])

    async def _exchange(self, data):
        reader, writer = await asyncio.open_connection(self.api.host, self.api.port)
        writer.write(data)
        back = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        writer.close()
        return back

    def still_works(self):
        before = len(self.api.intake.events)
        auth = {"Authorization": basic(SERVER)}
        assert self.send("/v1/track", GOOD, "POST", auth) == 200
        assert len(self.api.intake.events) == before + 1


@pytest.fixture(scope="module")
def serving():
    with Serving() as one:
        yield one


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(PATHS, CALL | BATCH | JSON, CUTS, HEADERS, METHODS, st.sampled_from([SERVER, MOBILE, "x"]),
       st.booleans())  # fmt: skip
def test_collect_s5_no_request_breaks_it(serving, path, body, cuts, headers, method, key, pack):
    data = _mutate(json.dumps(body, ensure_ascii=not pack).encode("utf-8", "surrogatepass"), cuts)
    fields = {"Authorization": basic(key + ":")}
    if pack:
        data = _mutate(gzip.compress(data), cuts[:1])
        fields["Content-Encoding"] = "gzip"
    status = serving.send(path, data, method, {**fields, **headers})
    assert status in (200, 400, 405), status
    serving.still_works()


@FUZZ
@given(CALL | JSON, CUTS)
def test_collect_s5_one_parser_reads_or_refuses_every_call(body, cuts):
    data = _mutate(json.dumps(body).encode(), cuts)
    try:
        alone = wire.decode_call(data)
    except wire.Malformed as error:
        assert data[:20].decode("latin-1") not in str(error) or len(data) < 8
        return
    batch, marked = wire.decode_batch(b'{"batch":[' + data + b"]}")
    items = [wire.decode_call(bytes(raw), marked=marked) for raw in batch.batch]
    assert items == [alone]
    assert isinstance(alone, Refused) or alone == json.loads(data)


def test_collect_C12_only_plain_text_is_echoed():
    assert answers._plain("https://a.example") == "https://a.example"
    for text in (None, "", "a\r\nb", "a\x00", "ä", "\ud800", "x" * 5000):
        assert answers._plain(text) is None
