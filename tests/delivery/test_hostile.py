"""Destinations that are slow, broken or hostile, and addresses that may not be reached."""

import asyncio
import socket
import time

import pytest
from aiohttp import web

from tests.delivery.rig import job, webhook


@pytest.fixture
async def raw():
    """Return a maker of servers that do what they like with a connection: port -> URL."""
    servers = []
    tasks = set()

    async def make(handler):
        async def handle(reader, writer):
            task = asyncio.current_task()
            tasks.add(task)
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()
                tasks.discard(task)

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    yield make
    for task in list(tasks):
        task.cancel()
    for server in servers:
        server.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def hang(reader, writer):
    await asyncio.sleep(60)


async def drip(reader, writer):
    await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.2)


async def drip_head(reader, writer):
    await reader.read(65536)
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)


async def reset(reader, writer):
    await reader.read(65536)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def close_mid_body(reader, writer):
    await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()


async def garbage(reader, writer):
    await reader.read(65536)
    writer.write(b"\0\1\2 this is no HTTP\r\n\r\n")
    await writer.drain()


async def endless(reader, writer):
    await reader.read(65536)
    writer.write(b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def endless_head(reader, writer):
    await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (hang, "ETIMEDOUT"),
        (drip_head, "ETIMEDOUT"),
        (reset, "ECONNRESET"),
        (garbage, "ECONNRESET"),
        (endless_head, "ECONNRESET"),
    ],
)
async def test_delivery_s2_no_proper_answer_is_tried_again(rigs, raw, handler, code):
    rig = rigs(webhook=webhook(await raw(handler), timeout="1s"))
    await rig.start()
    rig.apply(job(1))
    await rig.until(lambda: rig.jobs[0][1].attempts == 1)
    assert rig.jobs[0][1].code == code


@pytest.mark.parametrize("handler", [drip, close_mid_body])
async def test_delivery_s2_the_verdict_stands_with_the_status_line(rigs, raw, handler):
    rig = rigs(webhook=webhook(await raw(handler), timeout="1s"))
    await rig.start()
    rig.apply(job(1))
    await rig.drained()
    assert rig.counted("delivered") == 1


async def test_delivery_s2_of_an_endless_answer_only_the_beginning_is_read(rigs, raw):
    rig = rigs(webhook=webhook(await raw(endless)))
    await rig.start()
    rig.apply(job(1))
    await rig.drained(2)
    assert rig.dead[0].code == "400"
    assert rig.dead[0].answer == "x" * 1024


@pytest.mark.parametrize("handler", [hang, drip, drip_head, reset, garbage, None])
async def test_delivery_s10_9_a_bad_destination_does_not_delay_another(rigs, sinks, raw, handler):
    sink = await sinks()
    bad = await raw(handler) if handler else "http://127.0.0.1:1/"
    rig = rigs(webhook=webhook(sink.url), bad=webhook(bad, timeout="5s"))
    took = []
    sent: dict[str, float] = {}

    def answer(request, n):
        took.append(time.perf_counter() - sent[request.headers["X-Message-Id"]])
        return web.Response()

    sink.answer = answer
    await rig.start()
    for n in range(200):
        sent[f"m{n}"] = time.perf_counter()
        rig.apply(job(n, f"p{n}"), *(job(n, f"p{n}.{k}", "bad") for k in range(5)))
        await asyncio.sleep(0.005)
    await rig.until(lambda: rig.counted("delivered") == 200)
    took.sort()
    assert took[197] < 3  # a bad one takes 5 s
    assert rig.counted("received", "bad") == 1_000


async def test_delivery_s10_9_a_dead_destinations_backlog_is_bounded_in_memory(rigs, raw):
    rig = rigs(bad=webhook(await raw(hang), timeout="60s"))
    await rig.start()
    for start in range(0, 7_000, 500):
        rig.apply(*(job(n, f"p{n}", "bad") for n in range(start, start + 500)))
    assert rig.outbound.status()["bad"]["in_memory"] <= 5_020
    assert len(rig.jobs) == 7_000


PRIVATE = [
    "http://127.0.0.1/", "http://0/", "http://127.1/", "http://2130706433/", "http://0x7f.1/",
    "http://017700000001/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::]/",
    "http://169.254.169.254/latest/meta-data", "http://[fd00::1]/", "http://[fe80::1]/",
    "http://localhost/", "http://good@127.0.0.1/", "http://10.0.0.1/",
    "http://172.16.0.1/", "http://192.168.1.1/", "http://100.64.0.1/", "http://0.0.0.0/",
    "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://224.0.0.1/",
    "http://255.255.255.255/", "http://[::127.0.0.1]/",
]


@pytest.mark.parametrize("url", PRIVATE)
async def test_workspace_WS24_a_private_address_is_refused(rigs, url):
    rig = rigs(webhook=webhook(url, timeout="2s"))
    await rig.start(allow="")
    rig.apply(job(1))
    await rig.drained()
    assert [(letter.reason, letter.code) for letter in rig.dead] == [
        ("discarded", "address_refused")
    ]


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "http://[", "http://a:99999"],
)
async def test_workspace_WS24_what_is_no_http_address_is_refused(rigs, url):
    rig = rigs(webhook=webhook(url))
    await rig.start()
    rig.apply(job(1))
    await rig.drained()
    assert rig.dead[0].code == "INVALID_SETTINGS"


async def test_workspace_WS24_the_operator_may_allow_a_network_and_nothing_beside_it(rigs, sinks):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url), other=webhook("http://10.0.0.1/"))
    await rig.start(allow="127.0.0.1/32")
    rig.apply(job(1), job(2, "p1", "other"))
    await rig.drained()
    assert sink.ids == ["m1"]
    assert [letter.destination for letter in rig.dead] == ["other"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["http://169.254.169.254/", "http://[::1]:1/", "http://10.1.1.1"])
async def test_workspace_WS24_a_redirect_to_a_private_address_is_refused(
    rigs, sinks, status, target
):
    sink = await sinks()
    sink.answer = lambda request, n: web.Response(status=status, headers={"Location": target})
    rig = rigs(webhook=webhook(sink.url))
    await rig.start(allow="127.0.0.1/32")
    rig.apply(job(1))
    await rig.drained()
    assert [letter.code for letter in rig.dead] == ["address_refused"]


async def test_workspace_WS24_a_name_with_one_private_address_is_refused(rigs, sinks):
    # `localhost` stands for any such name: 127.0.0.1 is allowed here, ::1 beside it is not.
    sink = await sinks()
    port = sink.url.rsplit(":", 1)[1].split("/")[0]
    found = {info[4][0] for info in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
    rig = rigs(webhook=webhook(f"http://localhost:{port}/"))
    await rig.start(allow="127.0.0.0/8")
    rig.apply(job(1))
    await rig.drained()
    assert (len(sink.got) == 0) == ("::1" in found)


async def test_workspace_WS24_a_name_that_is_not_found_is_tried_again(rigs):
    rig = rigs(webhook=webhook("http://nothing.invalid/"))
    await rig.start()
    rig.apply(job(1))
    await rig.until(lambda: rig.jobs[0][1].attempts == 1, 20)
    assert rig.jobs[0][1].code in ("ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT")
