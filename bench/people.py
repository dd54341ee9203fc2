"""Believable shop traffic, always the same for a seed: anonymous browsing, logins, second devices,
0.6 % duplicates, events of about 1 KB. Both sides of every comparison get these bytes.
"""

import random
from collections.abc import Iterator
from itertools import islice

import msgspec

_encode = msgspec.json.Encoder().encode

PAGES = ("Home", "Pricing", "Shoes", "Hats", "Cart", "Checkout", "Account", "Help")
CATEGORIES = ("shoes", "hats", "coats", "bags", "cosmetics", "books")
SESSION_EVENTS = 12
GAP_MS = 20
"""Between two events."""
_FILLER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0"


def events(
    seed: int, visitors: int, count: int, start_ms: int, town: int | None = None
) -> Iterator[dict[str, object]]:
    """Yield ``count`` calls of ``visitors`` people in order of time, 20 ms apart.

    The people are those of the town, the seed's own unless it is given.
    """
    town = seed if town is None else town
    draw = random.Random(seed)  # noqa: S311, traffic, not secrets
    active: list[list[object]] = []
    sent: list[dict[str, object]] = []
    for number in range(count):
        if sent and draw.random() < 0.006:
            yield draw.choice(sent)
            continue
        if len(active) < 400 or draw.random() < 1 / SESSION_EVENTS:
            person = draw.randrange(visitors)
            device = 0 if draw.random() < 0.85 else 1
            known = draw.random() < 0.4
            active.append([person, device, known, 0])
            if len(active) > 400:
                active.pop(draw.randrange(len(active) - 1))
        visit = draw.choice(active)
        event = _call(draw, seed, town, number, visit, start_ms + number * GAP_MS)
        sent.append(event)
        if len(sent) > 2000:
            del sent[:1000]
        yield event


def _call(
    draw: random.Random, seed: int, town: int, number: int, visit: list[object], at_ms: int
) -> dict[str, object]:
    person, device, known, step = visit
    visit[3] = int(step) + 1  # type: ignore[call-overload]
    event: dict[str, object] = {
        "messageId": f"m-{seed}-{number:09d}-{draw.getrandbits(64):016x}",
        "anonymousId": visitor(person, device, town),
        "timestamp": iso(at_ms),
        "context": {
            "ip": "203.0.113.9",
            "userAgent": _FILLER,
            "locale": "en-GB",
            "library": {"name": "analytics.js", "version": "next-1.84.3"},
            "page": {
                "path": f"/{draw.choice(CATEGORIES)}/{draw.randrange(5000)}",
                "referrer": "https://search.example.org/results?q=winter+shoes",
                "search": "?utm_source=news&utm_medium=email&utm_campaign=winter",
                "title": "The shop for everything that keeps you warm this winter",
                "url": f"https://shop.example.org/catalogue/{draw.randrange(90000)}",
            },
            "campaign": {"source": "news", "medium": "email", "name": "winter"},
            "timezone": "Europe/Berlin",
        },
        "integrations": {},
    }
    if known and step == 4:
        event |= {
            "type": "identify",
            "userId": f"u-{person}",
            "traits": {
                "email": f"p{person}@shop.test", "first_name": f"Name{person}",
                "plan": draw.choice(("free", "pro", "team")), "country": draw.choice(("DE", "FR")),
                "newsletter": draw.random() < 0.5,
            },
        }
        return event
    if known and int(step) > 4:  # type: ignore[call-overload]
        event["userId"] = f"u-{person}"
    roll = draw.random()
    category = draw.choice(CATEGORIES)
    if roll < 0.45:
        event |= {"type": "page", "name": draw.choice(PAGES), "properties": {
            "category": category, "position": draw.randrange(40),
            "path": "/catalogue/winter/collection", "title": "Winter collection"}}
        return event
    name = ("Product Viewed" if roll < 0.80 else "Product Added" if roll < 0.92
            else "Checkout Started" if roll < 0.96 else "Order Completed")
    event |= {"type": "track", "event": name, "properties": {
        "product_id": f"p-{draw.randrange(5000)}", "category": category, "currency": "EUR",
        "cart_id": f"c-{person}-{town}", "price": draw.randrange(500, 20000) / 100,
        "revenue": draw.randrange(500, 20000) / 100, "quantity": draw.randrange(1, 4),
        "brand": "Northwind", "variant": "dark blue", "coupon": "WINTER-2026",
        "image_url": "https://images.example.org/p/" + "a" * 60}}
    return event


def visitor(person: int, device: int, town: int) -> str:
    """Return the anonymousId of a person's device."""
    return f"an-{person}-{device}-{town}"


def batches(
    seed: int, visitors: int, count: int, start_ms: int, write_key: str, size: int = 100,
    town: int | None = None,
) -> list[bytes]:
    """Return the bodies of POST /v1/batch, ``size`` calls each, the last one maybe fewer."""
    made = events(seed, visitors, count, start_ms, town)
    return [
        _encode({"batch": held, "writeKey": write_key})
        for held in iter(lambda: list(islice(made, size)), [])
    ]


def iso(at_ms: int) -> str:
    seconds, millis = divmod(at_ms, 1000)
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, second = divmod(rest, 60)
    year, month, day = _civil(days)
    return f"{year:04d}-{month:02d}-{day:02d}T{hours:02d}:{minutes:02d}:{second:02d}.{millis:03d}Z"


def _civil(days: int) -> tuple[int, int, int]:
    days += 719468
    era = days // 146097
    of_era = days - era * 146097
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year_of_era + era * 400 + (month <= 2), month, day
