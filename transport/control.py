"""The control socket: how a command line speaks to the worker that owns the data folder.

A Unix socket for this user alone. One request a line, ``{"command": NAME, "args": {...}}``; one
answer a line, ``{"ok": true, "result": ...}`` or ``{"ok": false, "error": TEXT}``. A path longer
than the kernel takes (about 104 bytes) gets a short one in a private temporary folder, which the
file ``PATH.at`` names.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

PATH_BYTES = 100
LINE_BYTES = 16 << 20

logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], Awaitable[Any]]


class NoWorker(Exception):
    """No worker listens there."""


class CommandRefused(Exception):
    """The worker cannot do what was asked; a handler raises it to say so without a traceback."""


class _Request(msgspec.Struct):
    command: str
    args: dict[str, Any] = {}


class _Answer(msgspec.Struct, omit_defaults=True):
    ok: bool
    result: Any = None
    error: str = ""


class Server:
    """Listens on ``path`` and gives each request to its handler."""

    def __init__(self, path: str | os.PathLike[str], handlers: Mapping[str, Handler]) -> None:
        """``handlers`` by command name; each gets the request's ``args``."""
        self._path = os.fspath(path)
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._folder = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen. The caller owns the folder: what an earlier worker left is removed."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._bind(), limit=LINE_BYTES
        )

    def _bind(self) -> socket.socket:
        self._clear()
        place = self._path
        if len(os.fsencode(place)) > PATH_BYTES:
            self._folder = tempfile.mkdtemp(prefix="watersmeet-")
            place = f"{self._folder}/control"
            Path(f"{self._path}.at").write_text(place)
        listener = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        try:
            listener.bind(place)
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(mask)
        return listener

    async def stop(self) -> None:
        """Stop listening, drop who is connected, and leave nothing behind."""
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)
            self._server = None
        self._clear()

    def _clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self._path).unlink()
        with contextlib.suppress(FileNotFoundError):
            Path(f"{self._path}.at").unlink()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    answer = _Answer(False, error=f"a request is at most {LINE_BYTES} bytes")
                    writer.write(msgspec.json.encode(answer) + b"\n")
                    break
                if not line.endswith(b"\n"):
                    break
                writer.write(await self._answer(line) + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the caller is gone, or the worker stops
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> bytes:
        """Return the answer to one request; no request brings the server down."""
        try:
            request = msgspec.json.decode(line, type=_Request)
            handler = self._handlers.get(request.command)
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise CommandRefused(f'there is no command "{request.command}"; there are: {known}')
            return msgspec.json.encode(_Answer(True, await handler(request.args)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return msgspec.json.encode(_Answer(False, error=f"not a request: {error}"))
        except CommandRefused as error:
            return msgspec.json.encode(_Answer(False, error=str(error)))
        except Exception as error:  # told to whoever asked, and logged
            logger.exception("a command failed")
            return msgspec.json.encode(_Answer(False, error=f"{type(error).__name__}: {error}"))


def call(
    path: str | os.PathLike[str],
    command: str,
    args: Mapping[str, Any] | None = None,
    timeout: float = 30.0,
) -> Any:
    """Ask the worker that listens on ``path``. Return its result.

    Raises NoWorker when none does, or when it does not answer within ``timeout`` seconds;
    CommandRefused with the worker's words.
    """
    path = os.fspath(path)
    place = _place(path)
    nobody = (
        f"no worker is running on {Path(path).parent}; start one with `faust -A app worker`"
    )
    if place is None:
        raise NoWorker(nobody)
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout)
        try:
            line.connect(place)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoWorker(nobody) from error
        try:
            line.sendall(msgspec.json.encode(_Request(command, dict(args or {}))) + b"\n")
            with line.makefile("rb") as answers:
                told = answers.readline()
        except TimeoutError as error:
            raise NoWorker(f"the worker did not answer within {timeout:g} s") from error
        except ConnectionError:
            told = b""
    if not told.endswith(b"\n"):
        raise NoWorker("the worker stopped before it answered")
    answer = msgspec.json.decode(told, type=_Answer)
    if not answer.ok:
        raise CommandRefused(answer.error)
    return answer.result


def _place(path: str) -> str | None:
    """Return where to connect; None if nobody ever listened."""
    if len(os.fsencode(path)) <= PATH_BYTES:
        return path
    try:
        place = Path(Path(f"{path}.at").read_text())
        folder = place.parent.stat()
    except FileNotFoundError:
        return None
    # A temporary folder that was cleaned away may since be somebody else's.
    if folder.st_uid != os.geteuid() or stat.S_IMODE(folder.st_mode) & 0o077:
        return None
    return str(place)
