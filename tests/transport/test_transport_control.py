"""The control socket."""

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from transport.control import CommandRefused, NoWorker, Server, call


async def double(args: dict[str, Any]) -> Any:
    return {"twice": args["number"] * 2}


async def refuse(_args: dict[str, Any]) -> Any:
    raise CommandRefused("not now")


async def hang(_args: dict[str, Any]) -> Any:
    await asyncio.sleep(60)


HANDLERS = {"double": double, "refuse": refuse, "hang": hang}


@pytest.mark.parametrize("depth", [1, 12])
async def test_transport_a_command_reaches_the_worker(tmp_path: Path, depth: int) -> None:
    folder = tmp_path.joinpath(*["a-long-name"] * depth)
    folder.mkdir(parents=True)
    path = folder / "control"
    with pytest.raises(NoWorker, match=r"no worker is running on .* start one"):
        call(path, "double")
    server = Server(path, HANDLERS)
    await server.start()
    ask = asyncio.to_thread
    assert await ask(call, path, "double", {"number": 21}) == {"twice": 42}
    with pytest.raises(CommandRefused, match="not now"):
        await ask(call, path, "refuse")
    with pytest.raises(CommandRefused, match='no command "x"; there are: double, hang, refuse'):
        await ask(call, path, "x")
    with pytest.raises(CommandRefused, match="KeyError"):
        await ask(call, path, "double")
    with pytest.raises(NoWorker, match=r"did not answer within 0\.2 s"):
        await ask(call, path, "hang", None, 0.2)
    if depth == 1:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    waiting = asyncio.ensure_future(ask(call, path, "hang"))
    await asyncio.sleep(0.1)
    await server.stop()
    with pytest.raises(NoWorker, match="stopped before it answered"):
        await waiting
    assert list(folder.iterdir()) == []
    with pytest.raises(NoWorker):
        call(path, "double")


async def test_transport_what_a_killed_worker_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with pytest.raises(NoWorker):
        call(path, "double")
    server = Server(path, HANDLERS)
    await server.start()
    assert await asyncio.to_thread(call, path, "double", {"number": 1}) == {"twice": 2}
    await server.stop()


async def test_transport_rubbish_on_the_socket_is_answered(tmp_path: Path) -> None:
    server = Server(tmp_path / "control", HANDLERS)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control"))
    for rubbish in (b"\n", b"{}\n", b"\xff\xfe\n", b"[1]\n", b'{"command": 1}\n'):
        writer.write(rubbish)
        assert b'"ok":false' in await reader.readline()
    writer.write(b'{"command": "double", "args": {"number": 4}}\n')
    assert await reader.readline() == b'{"ok":true,"result":{"twice":8}}\n'
    writer.close()
    await server.stop()
