"""Rows and counters of partitions that other workers own: asked for, and answered.

Each worker answers for what it has open and never passes a question on. Who asks runs in a thread:
the questions block. A worker that does not answer is named, and nothing is told in its stead.
"""

import base64
import http.client
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from app.cluster.union import Union
from app.reader import StoreReader
from app.web.access import Access, Fault
from runtime.stage import Table

T = TypeVar("T")

PATH = "/internal/rows"
PAGE = 500
TIMEOUT_SECONDS = 3.0


class Question(msgspec.Struct, array_like=True):
    """What is asked for: ``get``, ``scan`` or ``counters``."""

    what: str
    table: bytes = b""
    key: bytes = b""
    start: bytes = b""
    stop: bytes = b""
    reverse: bool = False


_decode = msgspec.msgpack.Decoder(Question).decode
_encode = msgspec.msgpack.Encoder().encode
_rows = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]]).decode
_counts = msgspec.msgpack.Decoder(list[tuple[str, int]]).decode


class PeerReader:
    """The reader over the partitions of another worker; see `app.reader.Reader`."""

    def __init__(self, name: str, token: str) -> None:
        """``name`` is the worker's ``host:port``."""
        self.name = name
        self._token = token

    def _ask(self, question: Question) -> bytes:
        authorization = "Basic " + base64.b64encode(f"{self._token}:".encode()).decode()
        connection = http.client.HTTPConnection(self.name, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", PATH, _encode(question),
                               {"Authorization": authorization,
                                "Content-Type": "application/octet-stream"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise unanswered([self.name]) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise unanswered([self.name])
        return body

    def get(self, table: Table[T], key: bytes) -> T | None:
        """Return the row, or None."""
        body = self._ask(Question("get", table.prefix, key))
        for _, value in _rows(body):
            return StoreReader.decoded(table, value)
        return None

    def scan(
        self, table: Table[T], prefix: bytes = b"", start: bytes = b"", stop: bytes = b"",
        *, reverse: bool = False,
    ) -> Iterator[tuple[bytes, T]]:
        """Yield (key, row), a page at a time."""
        while True:
            page = _rows(self._ask(Question("scan", table.prefix, prefix, start, stop, reverse)))
            for key, value in page:
                yield key, StoreReader.decoded(table, value)
            if len(page) < PAGE:
                return
            last = page[-1][0]
            if reverse:
                stop = last
            else:
                start = last + b"\0"

    def counter(self, name: str) -> int:
        """Return a counter."""
        return dict(self.counters(name)).get(name, 0)

    def counters(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield counters by name."""
        return iter(_counts(self._ask(Question("counters", key=prefix.encode()))))


def unanswered(names: list[str]) -> Fault:
    """Return the refusal that names who did not answer."""
    return Fault(503, "workers_unavailable",
                 "no answer from " + ", ".join(names) + "; try again", 1)


def add_routes(app: web.Application, access: Access, own: Union) -> None:
    """Answer other workers' questions, by what is open here."""
    async def rows(request: web.Request) -> web.Response:
        access.check(request)
        try:
            question = _decode(await request.read())
        except msgspec.DecodeError as error:
            raise Fault(400, "invalid_request_error", "that is no question") from error
        return web.Response(body=_encode(_answer(own, question)),
                            content_type="application/octet-stream")

    app.router.add_post(PATH, rows)


def _answer(own: Union, question: Question) -> Any:
    if question.what == "counters":
        return list(own.counters(question.key.decode()))
    raw: Table[bytes] = Table("raw", question.table, bytes)
    if question.what == "get":
        found = own.get(raw, question.key)
        return [] if found is None else [(question.key, found)]
    page: list[tuple[bytes, bytes]] = []
    for row in own.scan(raw, question.key, question.start, question.stop,
                        reverse=question.reverse):
        page.append(row)
        if len(page) == PAGE:
            break
    return page


def advertised(host: str, port: int) -> str:
    """Return how other workers reach one that listens on ``host``."""
    return f"{socket.gethostname() if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104


def peers(
    own_name: str, partitions: int, owners: Callable[[], dict[int, str]], token: str
) -> Callable[[], list[PeerReader]]:
    """Return what tells the readers of all other workers; it raises Fault while a partition is
    nobody's, since what it holds cannot be told."""
    def readers() -> list[PeerReader]:
        known = owners()
        if len(known) < partitions:
            missing = sorted(set(range(partitions)) - set(known))
            raise Fault(503, "workers_unavailable",
                        f"nobody has partitions {', '.join(map(str, missing))} yet", 1)
        return [PeerReader(name, token) for name in sorted(set(known.values())) if name != own_name]

    return readers

