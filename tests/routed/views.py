"""What two runs must have in common, whatever runs them."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from agents.delivery import JOBS, destination_of, queue_of
from agents.identity import ACCOUNTS, OWNERS, REDIRECTS
from agents.profile_tables import HISTORY, MEMBERS, PROFILES, RUNNING
from app.reader import StoreReader

SAME_COUNTERS = ("logged", "duplicates", "filtered", "unresolved", "applied", "set_aside",
                 "profiles", "accounts", "audience:", "usage:", "journey:", "identity:", "jobs_")


def view(readers: Iterable[StoreReader]) -> dict[str, Any]:
    """Return all that a person, a marketer or an operator could see of the state."""
    seen: dict[str, Any] = {"profiles": {}, "history": {}, "members": {}, "running": {},
                            "owners": {}, "redirects": {}, "accounts": {}, "jobs": {},
                            "counters": {}}
    for reader in readers:
        for key, profile in reader.scan(PROFILES):
            # When a timer stands in the table says nothing: one that stands early only rings.
            seen["profiles"][key] = replace(profile, armed_ms=0)
        for name, table in (("history", HISTORY), ("members", MEMBERS), ("running", RUNNING),
                            ("owners", OWNERS), ("redirects", REDIRECTS),
                            ("accounts", ACCOUNTS)):
            seen[name].update(reader.scan(table))
        for key, job in reader.scan(JOBS):
            at = destination_of(key), queue_of(key)
            seen["jobs"].setdefault(at, []).append((job.message_id, job.body))
        for name, value in reader.counters():
            if name.startswith(SAME_COUNTERS):
                seen["counters"][name] = seen["counters"].get(name, 0) + value
    for (_, queue), jobs in seen["jobs"].items():
        profile = seen["profiles"].get(queue.encode())
        if profile is not None and profile.absorbed:
            # What two persons were told in one instant has no order among them.
            jobs.sort(key=lambda job: (msgspec.json.decode(job[1])["timestamp"], job[0]))
    seen["counters"] = {name: value for name, value in seen["counters"].items() if value}
    return seen


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return what is not the same, a line each."""
    found = []
    for part in one:
        for key in sorted({*one[part], *other[part]}, key=repr):
            a, b = one[part].get(key), other[part].get(key)
            if a != b:
                found.append(f"{part} {key!r}:\n    {a!r}\n    {b!r}")
    return found
