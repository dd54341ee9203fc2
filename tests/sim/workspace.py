"""The simulator's little shop, in a few editions: what an operator's edits would make of it.

`EDITIONS[n].define` is the record that enters the log; `EDITIONS[n].plain` says the same in plain
values, for the oracle, which reads no product code.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from agents.records import Define
from workspace.definitions import digest, load, normal_form

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

_BASE = """
version: 1
workspace: {name: Sim, slug: sim, dedup_window: 24h}
sources:
  web: {type: website, write_keys: [wk_web_000001]}
  app: {type: mobile, write_keys: [wk_app_000001]}
  server: {type: server, write_keys: [wk_server_000001]}
destinations:
  hook: {type: webhook, settings: {url: "http://hook.test/", batch_size: 3}, retry: {window: 4h}}
  feed: {type: webhook, settings: {url: "http://feed.test/"}, sources: [web, app]}
identity: {}
computed_traits:
  orders_7d:
    {type: count, event: Order Completed, window: {within: 7d}, destinations: [{to: hook}]}
  revenue: {type: sum, event: Order Completed, property: revenue}
  first_page: {type: first, event: Page Viewed, property: page_name}
  last_product:
    {type: last, event: Product Viewed, property: name, destinations: [{to: hook}]}
  categories: {type: unique_list, event: Product Viewed, property: category}
audiences:
  recent_buyers:
    where: {performed: {event: Order Completed, at_least: 1, within: 7d}}
    destinations: [{to: hook}]
  window_shoppers:
    where: {performed: {event: Product Viewed, at_least: 3, within: 1d}}
    include_anonymous: true
    destinations: [{to: hook}]
  lapsed:
    where:
      all:
        - performed: {event: Order Completed, at_least: 1}
        - performed: {event: Order Completed, exactly: 0, within: 7d}
    destinations: [{to: hook}]
  spenders:
    where: {trait: {revenue: {gte: 100}}}
    destinations: [{to: hook}]
  pro:
    where: {trait: {plan: {one_of: [pro, team]}}}
    destinations: [{to: hook}]
  plain_buyers:
    where: {all: [{audience: recent_buyers}, {not: {audience: pro}}]}
    destinations: [{to: hook}]
  returning:
    where: {performed: {event: Product Viewed, at_least: 2, between: [1d, 3d]}}
    include_anonymous: true
    destinations: [{to: hook}]
  shoe_fans:
    where:
      performed:
        {event: Product Viewed, at_least: 2, within: 2d, where: {category: {equals: shoes}},
         exclude_sources: [server]}
    include_anonymous: true
    destinations: [{to: hook}]
  newcomers:
    where: {trait: {signed_up_at: {within_last: 3d}}}
    destinations: [{to: hook}]
  quiet:
    where: {performed: {event: Page Viewed, at_most: 1, within: 1d}}
    destinations: [{to: hook}]
journeys:
  cart:
    entry:
      event: Cart Modified
      where: {total: {gt: 20}}
      audience: {not: {audience: pro}}
      re_enter: every
      key: cart_id
    exit_rules:
      events: [{event: Order Completed, match_key: cart_id}]
      send: {to: [hook], event: Cart closed}
    steps:
      start:
        hold_until:
          max: 30m
          branches:
            updated: {event: Cart Modified, key: cart_id, restart: true}
            saved: {event: Cart Saved, key: cart_id, next: end}
          timeout: reminder
      reminder: {send: {to: [hook], event: Cart reminder, traits: [plan]}, next: pause}
      pause: {delay: {for: 1d}, next: value}
      value:
        split:
          branches:
            - name: worth
              when: {context: {"Cart Modified.total": {gte: 100}}}
              next: coupon
          else: end
      coupon: {send: {to: [hook], event: Cart coupon}, next: end}
  welcome:
    entry: {event: Signed Up, re_enter: once}
    steps:
      start: {delay: {for: 10m}, next: hello}
      hello: {send: {to: [hook], event: Welcome}, next: end}
"""


@dataclass(frozen=True)
class Edition:
    """A workspace as a record of the log, and as plain values."""

    define: Define
    plain: dict[str, Any]


def _edition(plain: dict[str, Any]) -> Edition:
    text = yaml.safe_dump(plain, sort_keys=False)
    definitions, problems = load([("workspace.yaml", text.encode())])
    assert definitions is not None, problems
    body = normal_form(definitions)
    return Edition(Define(body, digest(body), "sim"), plain)


def _editions() -> list[Edition]:
    def base() -> dict[str, Any]:
        return yaml.safe_load(_BASE)  # type: ignore[no-any-return]

    longer = base()
    longer["audiences"]["recent_buyers"]["where"]["performed"]["within"] = "14d"
    more = base()
    more["audiences"]["readers"] = {
        "where": {"performed": {"event": "Page Viewed", "at_least": 2}},
        "include_anonymous": True,
        "destinations": [{"to": "hook"}],
    }
    more["audiences"]["starting_now"] = {
        "where": {"performed": {"event": "Product Viewed", "at_least": 1}},
        "include_anonymous": True,
        "history": False,
    }
    more["audiences"]["starting_lately"] = {
        "where": {"performed": {"event": "Order Completed", "at_least": 1}},
        "history": "2d",
    }
    more["computed_traits"]["views"] = {"type": "count", "event": "Product Viewed"}
    fewer = base()
    del fewer["audiences"]["plain_buyers"], fewer["audiences"]["window_shoppers"]
    del fewer["computed_traits"]["categories"]
    cart = base()
    cart["journeys"]["cart"]["steps"]["start"]["hold_until"]["max"] = "1h"
    del cart["journeys"]["welcome"]
    gone = base()
    gone["destinations"]["feed"]["enabled"] = False
    apart = base()
    apart["identity"] = {"email_from_properties": False, "types": {"anonymous_id": {"limit": 2}}}
    strange = base()
    strange["identity"] = {
        "demotion": "targeted",
        "types": {"anonymous_id": {"limit": 2, "per": "daily"}, "loyalty_id": {"limit": 1}},
    }
    return [_edition(one) for one in (base(), longer, more, fewer, cart, gone, apart, strange)]


EDITIONS = _editions()
"""The first is in force at the beginning, and for most seeds all the time."""

WRITE_KEYS = {"web": "browser", "app": "mobile", "server": "server"}
"""Source -> the channel of its calls."""
