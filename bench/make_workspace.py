"""Writes the workspace of the comparison: the 20 audiences of `bench/plain.py`, half of them
windows, and one webhook; with more audiences around them, that a typical event does not touch.
"""

from pathlib import Path

WRITE_KEY = "wk_bench_web_1"

AUDIENCES = {
    "ordered_7d": "performed: {event: Order Completed, at_least: 1, within: 7d}",
    "ordered_twice_30d": "performed: {event: Order Completed, at_least: 2, within: 30d}",
    "viewed_5_1d": "performed: {event: Product Viewed, at_least: 5, within: 1d}",
    "viewed_20_7d": "performed: {event: Product Viewed, at_least: 20, within: 7d}",
    "added_1d": "performed: {event: Product Added, at_least: 1, within: 1d}",
    "added_3_7d": "performed: {event: Product Added, at_least: 3, within: 7d}",
    "checkout_1d": "performed: {event: Checkout Started, at_least: 1, within: 1d}",
    "shoes_10_1d": "performed: {event: Page Viewed, at_least: 10, within: 1d, "
                   "where: {category: {equals: shoes}}}",
    "pricing_3_7d": "performed: {event: Page Viewed, at_least: 3, within: 7d, "
                    "where: {page_name: {equals: Pricing}}}",
    "big_order_30d": "performed: {event: Order Completed, at_least: 1, within: 30d, "
                     "where: {revenue: {gt: 100}}}",
    "ordered_5": "performed: {event: Order Completed, at_least: 5}",
    "cosmetics": "performed: {event: Product Viewed, at_least: 1, "
                 "where: {category: {equals: cosmetics}}}",
    "plan_pro": "trait: {plan: {equals: pro}}",
    "plan_paid": "trait: {plan: {one_of: [pro, team]}}",
    "country_de": "trait: {country: {equals: DE}}",
    "has_email": "trait: {email: {exists: true}}",
    "reads_newsletter": "trait: {newsletter: {equals: true}}",
    "name_1": "trait: {first_name: {starts_with: Name1}}",
    "added_not_ordered": "all: [{performed: {event: Product Added, at_least: 1}}, "
                         "{performed: {event: Order Completed, exactly: 0}}]",
    "team_or_ordered_3": "any: [{trait: {plan: {equals: team}}}, "
                         "{performed: {event: Order Completed, at_least: 3}}]",
}


def write(folder: Path, sink: str, audiences: int = 20) -> None:
    """Write the folder; ``audiences`` 10, 20, or more: those beyond 20 wait for other events."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["version: 1", "sources:", "  web:", "    type: website",
             f"    write_keys: [{WRITE_KEY}]", "destinations:", "  sink:", "    type: webhook",
             "    settings:", f"      url: {sink}", "      batch_size: 100", "audiences:"]
    for key, where in list(AUDIENCES.items())[:audiences]:
        lines += [f"  {key}:", f"    where: {{{where}}}",
                  "    destinations: [{to: sink, send: [track]}]"]
    for number in range(max(0, audiences - len(AUDIENCES))):
        lines += [f"  other_{number}:",
                  "    where:",
                  f"      performed: {{event: Thing {number} Done, at_least: 2, within: 7d}}",
                  "    destinations: [{to: sink, send: [track]}]"]
    (folder / "bench.yaml").write_text("\n".join(lines) + "\n")
