"""Which addresses a destination may call: none that is private, unless the operator names it.

Asked twice: by `check` for addresses that are written out in a URL, and at the door for HTTP out
with each address just before the connect, so that neither a name nor a redirect goes round it.
"""

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a comma-separated list of CIDR (`WATERSMEET_OUTBOUND_ALLOW`).

    Empty text gives none; a plain address is a network of one. Raises ValueError, naming the
    part that is not a network.
    """
    found = []
    for part in text.split(","):
        name = part.strip()
        if not name:
            continue
        try:
            found.append(ip_network(name))
        except ValueError:
            raise ValueError(
                f'"{name}" is not a network; write it like 127.0.0.0/8 or ::1/128'
            ) from None
    return tuple(found)


def allowed(ip: str | Address, allow_networks: Iterable[Network] = ()) -> bool:
    """Tell whether a destination may be reached at this address: public, or named by the operator.

    Private, loopback, link-local, shared, multicast and reserved addresses are not public. An
    IPv4 address that hides in an IPv6 one (mapped, 6to4, Teredo, NAT64) is judged too. Text that
    is no address is refused. Rule: workspace WS-24.
    """
    if isinstance(ip, str):
        try:
            address = ip_address(ip.partition("%")[0])
        except ValueError:
            return False
    else:
        address = ip
    allow = tuple(allow_networks)
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return _public(inner) or _named(inner, allow) or _named(address, allow)
    return _public(address) or _named(address, allow)


def literal(host: str) -> Address | None:
    """Return the address that is written out in a URL's host; None for a name.

    Takes what resolvers take for an address: `127.1`, `2130706433`, `0x7f.0.0.1`, `[::1]`.
    """
    text = host.strip("[]").partition("%")[0].rstrip(".")
    try:
        return ip_address(text)
    except ValueError:
        return _old_form(text)


def _public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _named(address: Address, allow: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in allow)


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _old_form(text: str) -> IPv4Address | None:
    """Return the address in the one to four numbers, octal and hexadecimal too, of `inet_aton`."""
    parts = text.split(".")
    if not 1 <= len(parts) <= 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    *high, low = numbers
    if any(number > 255 for number in high) or low >= 256 ** (5 - len(numbers)):
        return None
    value = low
    for place, number in enumerate(high):
        value += number << (24 - 8 * place)
    return IPv4Address(value)


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if len(text) > 1 and text[0] == "0" else 10)
