"""What a call costs from its raw bytes to the stored event: `python -m tests.events.cost`.

Three events of about 1 KB, as the SDKs send them; the best of several runs, in microseconds.
"""

import json
import timeit

from events.calls import accept, request_context
from events.event import Received
from events.timestamps import parse
from events.wire import decode_batch, decode_call, long_numbers

TRACK = {
    "type": "track", "event": "Product Viewed", "userId": "u_81",
    "anonymousId": "3f0c9d2e-8a34-4c1d-9c50-1a2b3c4d5e6f",
    "properties": {
        "product_id": "p-123", "sku": "sku-998", "category": "Shoes", "name": "Runner 2000",
        "brand": "Fleet", "variant": "red", "price": 79.95, "quantity": 1, "currency": "EUR",
        "position": 3, "url": "https://shop.example.org/p/runner-2000", "list_id": "l-77",
        "image_url": "https://cdn.example.org/runner.jpg", "campaign": "spring",
    },
    "context": {
        "library": {"name": "analytics.js", "version": "npm:next-1.84.3"},
        "page": {
            "path": "/p/runner-2000", "referrer": "https://www.example.com/", "search": "?q=1",
            "title": "Runner 2000 - Shop", "url": "https://shop.example.org/p/runner-2000?q=1",
        },
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/120.0 Safari/537.36",
        "locale": "en-US", "timezone": "Europe/Berlin",
    },
    "integrations": {}, "messageId": "ajs-next-1767603600000-3f0c9d2e-8a34-4c1d",
    "timestamp": "2026-01-05T09:00:00.000Z",
}  # fmt: skip
BATCH = 100


def body() -> bytes:
    """Return a batch of them."""
    items = [{**TRACK, "messageId": f"{TRACK['messageId']}-{n}"} for n in range(BATCH)]
    return json.dumps({"batch": items, "sentAt": "2026-01-05T09:00:01.000Z"}).encode()


def run(raw_body: bytes) -> list[Received]:
    """Do with a batch what ingest does."""
    batch, marked = decode_batch(raw_body)
    request = request_context(
        type=None, project_id="web", channel="browser", client_side=True,
        received_at_ms=1767603601120, sent_at="2026-01-05T09:00:01.000Z",
        ip="203.0.113.9", new_message_id=lambda: "api-1",
    )
    numbers = None if long_numbers(raw_body) else False
    done = []
    for raw in batch.batch:
        call = decode_call(bytes(raw), numbers=numbers, marked=marked)
        done.append(accept(call, request))
    assert type(done[-1]) is Received, done[-1]
    return done


def best(function, number, per=1):
    """Return the least microseconds that one took."""
    return min(timeit.repeat(function, number=number, repeat=7)) / number * 1e6 / per


if __name__ == "__main__":
    raw_body = body()
    print(f"{len(raw_body) // BATCH} bytes an event")
    print(f"decode + accept + encode: {best(lambda: run(raw_body), 100, BATCH):.2f} us an event")
    for text in ("2026-01-05T09:00:00.000Z", "2026-01-05T09:00:00.000+00:00", "2026-1-5T09:00:00Z"):
        print(f"parse {text}: {best(lambda text=text: parse(text), 20_000):.2f} us")
