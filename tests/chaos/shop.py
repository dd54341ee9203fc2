"""The shop that is put through chaos: its definitions, its customers, and what they will cause.

A customer has one or two devices. Each of them makes its calls one after another: some before the
login, then the login, then more. What must come of it follows from the calls alone.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WEB, SERVER, SDK = "wk_chaos_web_01", "wk_chaos_server_01", "wk_chaos_sdk_01"
RECENT_MINUTES = 3

_CONFIG = """
version: 1
workspace: {{name: Chaos, slug: chaos, dedup_window: 24h}}
sources:
  web: {{type: website, write_keys: [{web}]}}
  server: {{type: server, write_keys: [{server}]}}
  sdk: {{type: server, write_keys: [{sdk}]}}
destinations:
  calls: {{type: webhook, sources: [web, server, sdk], settings: {{url: "{sink}/calls"}}}}
  told: {{type: webhook, settings: {{url: "{sink}/told", batch_size: 4}}}}
computed_traits:
  revenue:
    {{type: sum, event: Order Completed, property: revenue, destinations: [{{to: told}}]}}
  orders: {{type: count, event: Order Completed}}
  pages: {{type: unique_list, event: Page Viewed, property: path}}
audiences:
  buyers:
    where: {{performed: {{event: Order Completed, at_least: 1}}}}
    destinations: [{{to: told, send: [track]}}]
  recent:
    where: {{performed: {{event: Order Completed, at_least: 1, within: {recent}m}}}}
    destinations: [{{to: told, send: [track]}}]
journeys:
  welcome:
    entry: {{event: Signed Up, re_enter: once}}
    steps:
      start: {{send: {{to: [told], event: Welcome, traits: [email]}}, next: pause}}
      pause: {{delay: {{for: 5m}}, next: later}}
      later: {{send: {{to: [told], event: Welcome back}}, next: end}}
"""


def definitions_text(sink: str) -> str:
    """Return the workspace's one file, with destinations under the address ``sink``."""
    return _CONFIG.format(web=WEB, server=SERVER, sdk=SDK, sink=sink, recent=RECENT_MINUTES)


def write_config(folder: Path, sink: str) -> Path:
    """Write the workspace's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workspace.yaml").write_text(definitions_text(sink))
    return folder


@dataclass
class Device:
    """Makes calls in order; ``number`` in each of them says which."""

    user: str
    anonymous: str
    rng: random.Random
    made: int = 0
    logged_in: bool = False
    revenue: int = 0
    orders: int = 0
    signed_up: bool = False
    calls: list[str] = field(default_factory=list)
    """The messageIds, in order."""

    def next(self) -> dict[str, Any]:
        """Return the next call."""
        self.made += 1
        number = self.made
        call: dict[str, Any] = {
            "messageId": f"{self.anonymous}-{number}", "anonymousId": self.anonymous,
        }
        self.calls.append(call["messageId"])
        if number == 4:
            self.logged_in = True
            return call | {
                "type": "identify", "userId": self.user,
                "traits": {"email": f"{self.user}@example.com", "device": self.anonymous},
            }
        if self.logged_in:
            call["userId"] = self.user
        kind = self.rng.random()
        place = {"number": number, "path": f"/{self.rng.randrange(20)}"}
        if number == 5 and not self.anonymous.endswith("b"):
            self.signed_up = True
            return call | {"type": "track", "event": "Signed Up", "properties": place}
        if kind < 0.4:
            return call | {"type": "page", "name": "Shop", "properties": place}
        if kind < 0.65 or number < 3:
            amount = self.rng.randrange(1, 500)
            self.revenue += amount
            self.orders += 1
            return call | {
                "type": "track", "event": "Order Completed",
                "properties": {**place, "revenue": amount},
            }
        return call | {"type": "track", "event": "Product Viewed", "properties": place}


def customers(seed: int, count: int, prefix: str = "") -> list[Device]:
    """Return the devices of so many customers, a third of whom have two."""
    devices = []
    for n in range(count):
        user = f"{prefix}u{seed}x{n}"
        for which in ("a", "b") if n % 3 == 0 else ("a",):
            name = f"{user}{which}"
            devices.append(Device(user, name, random.Random(f"{seed}/{name}")))
    return devices
