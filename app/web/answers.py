"""Answers of the tracking API, with what a browser must find in them (collect 3, 5)."""

import math
from typing import Final

import msgspec
from aiohttp import hdrs, web

from app.web.bodies import Fault

SUCCESS: Final = b'{"success":true}'
_METHODS = "GET, POST, OPTIONS"
_ALLOWED_HEADERS = "authorization, content-type, x-retry-count"
_PREFLIGHT_SECONDS = "7200"
_LONGEST_ECHO = 2048
_encode = msgspec.json.Encoder().encode


def success(request: web.Request) -> web.Response:
    """Return exactly what SDKs take for success. Rule: collect C-21."""
    return web.Response(body=SUCCESS, headers=headers(request))


def refusal(request: web.Request, fault: Fault) -> web.Response:
    """Return a refusal of the whole request. Rule: collect C-22."""
    fields = headers(request)
    if fault.retry_after_s:
        seconds = str(max(1, math.ceil(fault.retry_after_s)))
        fields[hdrs.RETRY_AFTER] = seconds
        if fault.status == 429:
            fields["X-RateLimit-Reset"] = seconds
    if fault.status == 405:
        fields[hdrs.ALLOW] = "POST, OPTIONS"
    answer = web.Response(
        status=fault.status,
        body=_encode({"code": fault.code, "message": fault.message}),
        headers=fields,
    )
    if fault.close:
        answer.force_close()
    return answer


def preflight(request: web.Request) -> web.Response:
    """Return the answer to a browser that asks first. Rule: collect C-11."""
    fields = headers(request)
    del fields[hdrs.CONTENT_TYPE]
    fields[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = _METHODS
    fields[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = (
        _plain(request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS)) or _ALLOWED_HEADERS
    )
    fields[hdrs.ACCESS_CONTROL_MAX_AGE] = _PREFLIGHT_SECONDS
    fields[hdrs.VARY] = "Origin, Access-Control-Request-Headers"
    return web.Response(status=200, headers=fields)


def headers(request: web.Request) -> dict[str, str]:
    """Return what every answer carries. Rule: collect C-12."""
    return {
        hdrs.CONTENT_TYPE: "application/json",
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: _plain(request.headers.get(hdrs.ORIGIN)) or "*",
        hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS: "true",
        hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Retry-After, X-RateLimit-Reset",
        hdrs.VARY: "Origin",
        hdrs.SERVER: "Watersmeet",
    }


def _plain(text: str | None) -> str | None:
    """Return what may be echoed in a header: printable ASCII of a sane length; else None."""
    if text and len(text) <= _LONGEST_ECHO and text.isascii() and text.isprintable():
        return text
    return None
