"""Histories shaped like people: anonymous visits, sign-ups, second and shared devices, groups,
late and clock-skewed events, odd values, and the same events again. Few ids, so that they collide.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from tests.sim.workspace import DAY, HOUR, MINUTE


@dataclass
class Call:
    """A call before it is sent: ``late_ms`` is how long ago it happened then."""

    number: int
    body: dict[str, Any]
    late_ms: int = 0
    dated: bool = True
    """Whether it carries a timestamp."""


@dataclass(eq=False)
class Client:
    """An SDK on a device: sends calls in batches, in order, and repeats what was not answered."""

    source: str
    skew_ms: int
    calls: list[Call] = field(default_factory=list)


LATE = (0, 0, 0, 0, 0, 0, 1, 1000, 5 * MINUTE, 2 * HOUR, DAY, 3 * DAY, 7 * DAY, 8 * DAY, 30 * DAY)
ODD_USERS = ("null", "000-0", " u0 ", "Anonymous", "u\0zero", "\u00fc-\U0001f600", "-1", "u" * 90)
ODD_VALUES: tuple[Any, ...] = (
    None, "", 0, -0.0, 1e308, -(2**63), 2**64 - 1, True, [], {}, [1, [2, {"a": None}]], "\0",
    "\U0001f4a9", {"deep": {"deeper": [None]}}, "1e5", "9" * 39,
)  # fmt: skip
DATES = ("2025-06-15T15:06:40.000Z", "2025-06-16", "2025-06-14T20:00:00+02:00", "2025-06-15T10:00",
         "soon", None, 5)  # fmt: skip
PLANS = ("free", "pro", "team", None, "", "pro")
CATEGORIES = ("shoes", "hats", "Coats", "b\u00fccher", "", 7, 7.0, None, ["a", "b"])
REVENUES = (10, 99, 100, 0.25, 12.5, "20", "junk", None, -30, 1e3, True)


def histories(rng: random.Random, calls: int) -> list[Client]:
    """Return the clients of one seed and what they will send."""
    users = [f"u{n}" for n in range(rng.choice((1, 2, 2, 3, 5)))]
    emails = [f"{user}@shop.test" for user in users] + ["Shared@Shop.test "]
    anonymous = [f"a{n}" for n in range(rng.choice((1, 2, 4, 9)))]
    odd = rng.choice((0.0, 0.02, 0.1))
    poison = rng.choice((0.0, 0.0, 0.03))
    clients = [
        Client(
            rng.choice(("web", "app", "web", "server")),
            rng.choice((0, 0, 0, 7 * MINUTE, -3 * MINUTE, 2 * DAY)),
        )
        for _ in range(rng.choice((1, 1, 2, 3)))
    ]
    topics = rng.choice((_SHOP, _SHOP, _CARTS, _LOGINS))
    kinds, weights = zip(*topics, strict=True)
    # Devices of their own, and people who come back on others, are what makes merges; devices that
    # are shared make ids that give way.
    shared = rng.choice((0.0, 0.0, 0.05, 0.2))
    own = rng.random() < 0.5
    devices = [
        {"anonymousId": f"a{n}" if own else rng.choice(anonymous), "user": rng.choice(users),
         "known": False, "shared": shared}
        for n in range(rng.choice((1, 2, 3, 4, 6)))
    ]  # fmt: skip
    sent: list[Call] = []
    for number in range(calls):
        client = rng.choice(clients)
        if sent and rng.random() < 0.04:
            old = rng.choice(sent)
            client.calls.append(Call(old.number, dict(old.body), old.late_ms, old.dated))
            continue
        device = rng.choice(devices)
        kind = rng.choices(kinds, weights)[0]
        call = Call(number, _MAKERS[kind](rng, device, users, emails, anonymous))
        call.body["messageId"] = f"m{number}"
        if rng.random() < 0.25:
            call.late_ms = rng.choice(LATE)
            if call.late_ms > MINUTE and rng.random() < 0.8:
                call.late_ms += rng.randrange(1000)  # seldom just as long as a window
        if rng.random() < 0.03:
            call.late_ms = rng.choice((-4 * MINUTE, -HOUR, 4 * 365 * DAY, 60 * 365 * DAY))
        call.dated = rng.random() < 0.9
        if rng.random() < odd:
            _spoil(rng, call.body)
        if rng.random() < poison:
            call.body = {
                "type": "track", "event": rng.choice(("Poison", "Poison Row")),
                "messageId": f"m{number}", **_ids(device),
            }  # fmt: skip
        sent.append(call)
        client.calls.append(call)
    return clients


def _ids(device: dict[str, Any]) -> dict[str, Any]:
    if device["known"]:
        return {"anonymousId": device["anonymousId"], "userId": device["user"]}
    return {"anonymousId": device["anonymousId"]}


def _track(event: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "properties": properties}


def _order(rng: random.Random, device: Any, users: Any, *_: Any) -> dict[str, Any]:
    return _track("Order Completed", revenue=rng.choice(REVENUES),
                  cart_id=rng.choice(("c0", "c1", "c2"))) | _ids(device)  # fmt: skip


def _server_order(rng: random.Random, device: Any, users: Any, *_: Any) -> dict[str, Any]:
    return _track("Order Completed", revenue=rng.choice(REVENUES)) | {"userId": rng.choice(users)}


def _view(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    return _track("Product Viewed", name=f"p{rng.randrange(4)}",
                  category=rng.choice(CATEGORIES)) | _ids(device)  # fmt: skip


def _page(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    call: dict[str, Any] = {"type": "page", "properties": {"path": "/"}, **_ids(device)}
    if rng.random() < 0.8:
        call["name"] = rng.choice(("Home", "Pricing"))
    if rng.random() < 0.1:
        call["context"] = {"integrations": {"Google Analytics": {"clientId": "ga0"}}}
    return call


def _screen(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    return {"type": "screen", "name": "Main", **_ids(device), "context": {"device": {
        "type": rng.choice(("iOS", "android")), "id": f"d{rng.randrange(2)}",
        "advertisingId": "ad0", "adTrackingEnabled": rng.random() < 0.3, "token": "t0",
    }}}  # fmt: skip


def _cart(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    return _track("Cart Modified", total=rng.choice((5, 30, 150, "80", None)),
                  cart_id=rng.choice(("c0", "c1", "c2", 3, None))) | _ids(device)  # fmt: skip


def _saved(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    return _track("Cart Saved", cart_id=rng.choice(("c0", "c1", "3"))) | _ids(device)


def _signed_up(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    return _track("Signed Up") | _ids(device)


def _login(
    rng: random.Random, device: Any, users: Any, emails: Any, anonymous: Any
) -> dict[str, Any]:
    if rng.random() < device["shared"]:
        device["user"] = rng.choice(users)
    if rng.random() < device["shared"]:
        device["anonymousId"] = rng.choice(anonymous)
    device["known"] = rng.random() < 0.7
    traits: dict[str, Any] = {"plan": rng.choice(PLANS)}
    if rng.random() < 0.5:
        traits["email"] = emails[users.index(device["user"])]
        if rng.random() < device["shared"]:
            traits["email"] = rng.choice(emails)
    if rng.random() < 0.2:
        traits["extra"] = rng.choice(ODD_VALUES)
    if rng.random() < 0.2:
        traits["signed_up_at"] = rng.choice(DATES)
    call = {"type": "identify", "traits": traits, "anonymousId": device["anonymousId"]}
    if rng.random() < 0.75:
        call["userId"] = device["user"]  # else only the newsletter's form
    return call


def _logout(rng: random.Random, device: Any, *rest: Any) -> dict[str, Any]:
    device["known"] = False
    device["anonymousId"] = rng.choice(rest[-1]) if device["shared"] else f"b{rng.randrange(6)}"
    return _view(rng, device)


def _mail(
    rng: random.Random, device: Any, users: Any, emails: Any, anonymous: Any
) -> dict[str, Any]:
    """An event that carries an email in its properties or context, and so may join people."""
    email = emails[users.index(device["user"])]
    if rng.random() < device["shared"]:
        email = rng.choice(emails)
    call = _track("Newsletter Opened", email=email) | _ids(device)
    if rng.random() < 0.4:
        del call["properties"]["email"]
        call["context"] = {"traits": {"email": email, "plan": "not a trait"}}
    return call


def _group(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    return {
        "type": "group", "groupId": rng.choice(("g0", "g1", " g1 ", "null")),
        "traits": {"email": "office@co.test", "seats": rng.randrange(9)}, **_ids(device),
    }  # fmt: skip


def _of_group(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    return _view(rng, device) | {"context": {"groupId": rng.choice(("g0", "g1", "", "g2"))}}


def _alias(rng: random.Random, device: Any, users: Any, *rest: Any) -> dict[str, Any]:
    return {"type": "alias", "userId": rng.choice(users), "previousId": rng.choice(rest[-1])}


def _loyal(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    entry = {"id": f"L{rng.randrange(2)}", "type": "loyalty_id", "collection": "users",
             "encoding": "none"}  # fmt: skip
    if rng.random() < 0.2:
        entry.pop(rng.choice(sorted(entry)))
    return _view(rng, device) | {"context": {"externalIds": [entry]}}


def _personal(rng: random.Random, device: Any, *_: Any) -> dict[str, Any]:
    return _view(rng, device) | {"integrations": rng.choice((
        {"Personas": False}, {"All": False}, {"All": False, "Webhook": True},
        {"Webhook": False}, {"Webhook": {"a": 1}},
    ))}  # fmt: skip


_MAKERS = {
    "order": _order, "server order": _server_order, "view": _view, "page": _page, "screen": _screen,
    "cart": _cart, "saved": _saved, "signed up": _signed_up, "login": _login, "logout": _logout,
    "mail": _mail, "group": _group, "of group": _of_group, "alias": _alias, "loyal": _loyal,
    "personal": _personal,
}  # fmt: skip
_SHOP = [("order", 14), ("server order", 3), ("view", 25), ("page", 18), ("screen", 2), ("cart", 5),
         ("saved", 1), ("signed up", 2), ("login", 16), ("logout", 4), ("mail", 4), ("group", 3),
         ("of group", 2), ("alias", 1), ("loyal", 3), ("personal", 2)]  # fmt: skip
_CARTS = [("cart", 40), ("saved", 4), ("order", 12), ("login", 20), ("logout", 6), ("signed up", 5),
          ("view", 5), ("mail", 3)]  # fmt: skip
_LOGINS = [("login", 45), ("logout", 12), ("mail", 12), ("loyal", 8), ("screen", 8), ("order", 8),
           ("view", 8), ("group", 4), ("of group", 3), ("alias", 3)]  # fmt: skip


def _spoil(rng: random.Random, body: dict[str, Any]) -> None:
    """Put an odd value somewhere."""
    where = rng.randrange(5)
    if where == 0:
        body["userId"] = rng.choice(ODD_USERS)
    elif where == 1:
        body["anonymousId"] = rng.choice(ODD_USERS)
    elif where == 2:
        place = "traits" if body["type"] in ("identify", "group") else "properties"
        odd = rng.choice(ODD_VALUES)
        body.setdefault(place, {})[rng.choice(("email", "odd", "revenue", "plan", "name"))] = odd
    elif where == 3:
        body["context"] = {"traits": rng.choice(ODD_VALUES), "device": rng.choice(ODD_VALUES),
                           "externalIds": rng.choice(ODD_VALUES)}  # fmt: skip
    else:
        body["messageId"] = rng.choice(("", "m\0nul", "m" * 101, " m ", "\u00e4"))
