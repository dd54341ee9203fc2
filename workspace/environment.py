"""Destinations against the machine they run on: variables, addresses (workspace WS-04, WS-24)."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from destinations.addresses import Network, allowed, literal, networks
from destinations.catalogue import CATALOGUE
from destinations.definition import Destination
from destinations.references import references
from destinations.request import InvalidSettings, Settings, filled
from workspace.problem import Path
from workspace.structure import Fault

ALLOW: Final = "WATERSMEET_OUTBOUND_ALLOW"


def faults(destinations: Mapping[str, Destination], env: Mapping[str, str]) -> Iterator[Fault]:
    """Yield what this environment lacks for the destinations, or forbids them.

    No value of the environment is in a fault.
    """
    allow = () if allow_fault(env) else networks(env.get(ALLOW, ""))
    for key, destination in destinations.items():
        yield from _destination(("destinations", key, "settings"), destination, env, allow)


def allow_fault(env: Mapping[str, str]) -> str | None:
    """Return what is wrong with the operator's list of networks; None: nothing."""
    try:
        networks(env.get(ALLOW, ""))
    except ValueError as error:
        return str(error)
    return None


def _destination(
    path: Path, destination: Destination, env: Mapping[str, str], allow: tuple[Network, ...]
) -> Iterator[Fault]:
    given = destination.settings
    texts: list[tuple[Path, str]] = [
        ((*path, "url"), given.url),
        ((*path, "secret"), given.secret),
        *(((*path, "headers", name), text) for name, text in given.headers.items()),
    ]
    whole = True
    for place, text in texts:
        for name in dict.fromkeys(references(text).names):
            if not env.get(name):
                whole = False
                what = f"{name} is not set in the environment"
                yield Fault(place, what, "set it, or check with --no-env")
    if not whole:
        return
    try:
        settings = filled(given.url, given.secret, given.headers, env)
    except InvalidSettings:
        return  # a malformed ${: found without the environment too
    if any("${" in text for _, text in texts):
        yield from fault(path, destination, settings)
    yield from _address(path, settings.url, allow)


def fault(path: Path, destination: Destination, settings: Settings) -> Iterator[Fault]:
    """Yield what the destination's type says against its settings, if anything."""
    said = CATALOGUE[destination.type].fault(settings)
    if said is not None:
        where, _, what = said.partition(": ")
        keys = where.removeprefix("settings").strip(".").split(".", 1)
        yield Fault((*path, *(key for key in keys if key)), what, _MENDS.get(keys[0], "change it"))


_MENDS = {
    "url": "write it like https://hooks.example.com/watersmeet",
    "headers": "rename it, or leave it out",
}


def _address(path: Path, url: str, allow: tuple[Network, ...]) -> Iterator[Fault]:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return
    place = (*path, "url")
    mend = f"use a public one, or name its network in {ALLOW}"
    if host == "localhost" or host.endswith(".localhost"):
        # A name: what it stands for is seen when it is called. Known to be this machine, though.
        if not allowed("127.0.0.1", allow) and not allowed("::1", allow):
            what = "localhost is this machine, which will be refused"
            yield Fault(place, what, f"set {ALLOW}=127.0.0.0/8,::1/128", warning=True)
        return
    address = literal(host)
    if address is not None and not allowed(address, allow):
        yield Fault(place, "the address is private, so it is refused", mend)
