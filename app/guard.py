"""The address guard: no connection leaves for an address that the operator does not allow."""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from destinations.addresses import Network, allowed, literal


class AddressRefused(OSError):
    """The address is private, loopback, link-local or otherwise not public (workspace WS-24)."""


class Guard(AbstractResolver):
    """Resolves names for one destination, and makes its sockets.

    A name with one refused address is refused as a whole. The sockets are the guard that counts:
    every connection asks for one with the address it goes to, also when that was written out in
    the URL and never resolved. A thread of its own: a name server that hangs holds up nobody else.
    """

    def __init__(self, allow: Sequence[Network]) -> None:
        self._allow = tuple(allow)
        self._threads = ThreadPoolExecutor(1, "resolve")

    def connector(self, connections: int) -> aiohttp.TCPConnector:
        """Return a connector that cannot reach a refused address."""
        return aiohttp.TCPConnector(
            limit=connections,
            resolver=self,
            socket_factory=self.open_socket,
            # Shorter than the idle timeout of common servers (Node: 5 s), or the next request
            # meets a connection that is being closed.
            keepalive_timeout=4,
        )

    def refuses(self, host: str) -> bool:
        """Return whether the host is an address, in whatever form, that is refused."""
        address = literal(host)
        return address is not None and not allowed(address, self._allow)

    def open_socket(self, info: Any) -> socket.socket:
        """Return a socket for the address. Raises AddressRefused."""
        family, kind, protocol, _, address = info
        if not allowed(address[0], self._allow):
            raise AddressRefused("address refused")
        return socket.socket(family, kind, protocol)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name. Raises AddressRefused, or OSError when it has none."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        addresses = [(info[0], info[2], str(info[4][0])) for info in found]
        if not all(allowed(address, self._allow) for _, _, address in addresses):
            raise AddressRefused("address refused")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, protocol, address in addresses
        ]

    async def close(self) -> None:
        """Let the thread go; one that hangs in a name server ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
