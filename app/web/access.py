"""Who may read: the access token, and what every answer carries.

One token opens the space. It is compared by hash in constant time; guessing is slowed down by
address, and the right token is let through whatever else came from there.
"""

import binascii
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import hdrs, web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TOKEN_FILE = "token"  # noqa: S105, a file's name
FAILURES_A_MINUTE = 20
_ADDRESSES = 10_000
REQUEST_ID = web.RequestKey("request_id", str)
_log = logging.getLogger("watersmeet.access")
_encode = msgspec.json.Encoder().encode


class Fault(Exception):
    """A refusal: the HTTP status, the code of section 6, and a sentence."""

    def __init__(self, status: int, code: str, message: str, retry_after: int = 0) -> None:
        """Keep what the answer will say."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def invalid(message: str) -> Fault:
    """Return the refusal of an unusable parameter."""
    return Fault(400, "invalid_request_error", message)


def unfit(message: str) -> Fault:
    """Return the refusal of a bad collection, identifier or limit."""
    return Fault(400, "validation_error", message)


def missing(message: str) -> Fault:
    """Return the answer for what is not there."""
    return Fault(404, "not_found", message)


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        body=_encode(value), status=status, headers=headers, content_type="application/json"
    )


def refuse(fault: Fault) -> web.Response:
    """Return the refusal as an answer.

    Rule: profile-api section 6, C8.
    """
    headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after else None
    return reply({"error": {"code": fault.code, "message": fault.message}}, fault.status, headers)


# ---- the token -----------------------------------------------------------------------------------
def load_token(data_folder: Path, env: Mapping[str, str]) -> tuple[bytes, str]:
    """Return (sha256 of the token, where the token is kept).

    It is WATERSMEET_TOKEN; when that is unset, the one in the data folder's file ``token``, made
    at the first start and readable by its owner only. Raises OSError when it cannot be kept.
    """
    given = env.get("WATERSMEET_TOKEN")
    if given:
        return digest(given), "WATERSMEET_TOKEN"
    path = data_folder / TOKEN_FILE
    if not path.exists():
        data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = data_folder / f".{TOKEN_FILE}.{os.getpid()}"
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, secrets.token_urlsafe(32).encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        made.rename(path)
        _sync_folder(data_folder)
    token = path.read_text(encoding="utf-8").strip()
    if not token:
        path.unlink()
        return load_token(data_folder, env)
    path.chmod(0o600)
    return digest(token), str(path)


def digest(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def presented(header: str | None) -> str | None:
    """Return the token that an Authorization header carries; None when it carries none.

    Bearer, or Basic with the token as user name and an empty password; a missing colon is
    accepted.
    Rule: profile-api C3.
    """
    scheme, _, rest = (header or "").strip().partition(" ")
    rest = rest.strip()
    if not rest:
        return None
    if scheme.lower() == "bearer":
        return rest
    if scheme.lower() == "basic":
        try:
            decoded = binascii.a2b_base64(rest + "=" * (-len(rest) % 4))
        except binascii.Error:
            return ""
        return decoded.decode("utf-8", "replace").removesuffix(":")
    return None


class Access:
    """The door: checks tokens, counts failures by address."""

    def __init__(
        self, token_hash: bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open for the token with this hash. ``clock`` counts seconds and never falls."""
        self._hash = token_hash
        self._clock = clock
        self._failures: dict[str, tuple[float, int]] = {}
        self._key = hashlib.sha256(b"names in log lines" + token_hash).digest()

    def check(self, request: web.Request) -> None:
        """Return if the request carries the token, else raise Fault.

        A wrong token counts against its address: over 20 a minute the answer is 429.
        Rule: profile-api C3, C4; section 6 (order).
        """
        token = presented(request.headers.get(hdrs.AUTHORIZATION))
        if token is None:
            raise Fault(401, "authentication_error", "the access token is missing: send it as "
                        "the user name of HTTP Basic, or as Bearer")
        if hmac.compare_digest(digest(token), self._hash):
            return
        self._failed(request.remote or "")
        raise Fault(401, "authentication_error", "the access token is unknown")

    def _failed(self, address: str) -> None:
        now = self._clock()
        since, count = self._failures.get(address, (now, 0))
        if now - since >= 60:
            since, count = now, 0
        if address not in self._failures and len(self._failures) >= _ADDRESSES:
            self._failures = {
                known: row for known, row in self._failures.items() if now - row[0] < 60
            }
            if len(self._failures) >= _ADDRESSES:
                self._failures.clear()
        self._failures[address] = (since, count + 1)
        if count >= FAILURES_A_MINUTE:
            raise Fault(429, "rate_limit_error", "too many wrong tokens from this address",
                        max(1, int(60 - (now - since)) + 1))

    def hidden(self, value: str) -> str:
        """Return what stands for a personal value in a log line.

        Rule: profile-api I5.
        """
        kept = hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=8, key=self._key)
        return f"#{kept.hexdigest()}"


class Rate:
    """At most so many requests in any second.

    Rule: profile-api C6.
    """

    def __init__(
        self, per_second: int = 100, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow ``per_second``; ``clock`` counts seconds and never falls."""
        self._recent: deque[float] = deque(maxlen=per_second)
        self._clock = clock

    def take(self) -> None:
        """Count a request in, or raise Fault."""
        now = self._clock()
        recent = self._recent
        if len(recent) == recent.maxlen and now - recent[0] < 1:
            raise Fault(429, "rate_limit_error",
                        f"more than {recent.maxlen} requests in a second", 1)
        recent.append(now)


# ---- what every answer carries -------------------------------------------------------------------
_CODES = {400: "invalid_request_error", 401: "authentication_error", 403: "forbidden",
          404: "not_found", 405: "invalid_request_error", 413: "invalid_request_error",
          429: "rate_limit_error"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "Watersmeet",
}


@web.middleware
async def dress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every answer its Request-Id and the headers that keep browsers and caches away.

    Errors become JSON, and nothing of how they came about leaves the house.
    Rule: profile-api C5, C7, C8.
    """
    request_id = f"req_{secrets.token_hex(8)}"
    request[REQUEST_ID] = request_id
    try:
        response = await handler(request)
    except Fault as fault:
        response = refuse(fault)
    except web.HTTPException as error:
        response = _plain(error)
    except Exception:  # noqa: BLE001, the caller gets an id to ask about, and we the traceback
        _log.exception("request %s broke", request_id)
        response = refuse(Fault(500, "server_error", "something broke here; it was logged"))
    if not response.prepared:
        headers = response.headers
        headers["Request-Id"] = request_id
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
    return response


def _plain(error: web.HTTPException) -> web.StreamResponse:
    status = error.status
    if status < 400:
        return error
    code = _CODES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    response = refuse(Fault(status, code, (error.reason or "refused").lower()))
    allowed = error.headers.get(hdrs.ALLOW)
    if allowed:
        response.headers[hdrs.ALLOW] = allowed
    return response


def log_read(what: str, status: int, started: float, request_id: str) -> None:
    """Write the access log's line; ``what`` holds no personal value and no text of a client."""
    _log.info("%s %d %.1fms %s", what, status, (time.monotonic() - started) * 1000, request_id)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
