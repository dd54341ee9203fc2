"""Whether anything was lost, done twice, or done out of order; all of it from outside.

What was accepted is known from the senders. It is compared with what the Profile API, the metrics,
the archive, the webhook and, once the worker has stopped, the tables of the state say.
"""

import gzip
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.profile_tables import HISTORY
from app.reader import StoreReader
from tables.store import RocksStore
from tests.blackbox.process import Worker
from tests.chaos.shop import Device
from tests.chaos.sink import Sink


@dataclass
class Verdict:
    """What was found. ``faults`` holds a sentence for each broken promise."""

    accepted: int = 0
    applied: int = 0
    lost: int = 0
    twice: int = 0
    messages: int = 0
    repeated: int = 0
    digest: str = ""
    faults: list[str] = field(default_factory=list)

    def demand(self, holds: object, text: str) -> None:
        if not holds:
            self.faults.append(text)


def judge_running(
    verdict: Verdict, worker: Worker, sink: Sink, devices: list[Device], accepted: list[str],
    maybe: Iterable[str] = (), strict: Iterable[Device] = (),
) -> None:
    """Judge a worker that has come to rest. ``maybe`` was sent and never answered 200; ``strict``
    are the devices whose calls were sent in order."""
    verdict.accepted = len(accepted)
    numbers = worker.metrics()
    logged = numbers["watersmeet_logged_total"]
    balance = sum(numbers[f"watersmeet_{name}"] for name in (
        "duplicates_total", "filtered_total", "unresolved_total", "applied_total", "set_aside",
        "in_flight",
    ))
    verdict.demand(logged == balance, f"counters do not balance: {logged} logged, {balance} told")
    applied = int(numbers["watersmeet_applied_total"])
    verdict.applied = applied
    allowed = range(len(accepted), len(accepted) + len(set(maybe)) + 1)
    verdict.demand(applied in allowed, f"{applied} applied of {len(accepted)} accepted")
    for name in ("set_aside", "unresolved_total", "filtered_total"):
        verdict.demand(numbers[f"watersmeet_{name}"] == 0, f"{name} is not 0")
    _profiles(verdict, worker, devices, set(accepted), set(maybe))
    _messages(verdict, sink, devices, set(accepted), set(maybe), list(strict))


def _profiles(
    verdict: Verdict, worker: Worker, devices: list[Device], accepted: set[str], maybe: set[str]
) -> None:
    """Read some persons through the Profile API."""
    by_user: dict[str, list[Device]] = {}
    for device in devices:
        if device.logged_in:
            by_user.setdefault(device.user, []).append(device)
    for user in sorted(by_user)[:25]:
        own = [call for device in by_user[user] for call in device.calls]
        found = Counter(event["message_id"] for event in worker.history(f"user_id:{user}"))
        _same(verdict, f"the history of {user}", found, set(own) & accepted, set(own) & maybe)
        if set(own) & maybe:
            continue
        traits = worker.person(f"user_id:{user}", "traits", "?limit=100")["traits"]
        orders = sum(device.orders for device in by_user[user])
        verdict.demand(traits.get("orders", 0) == orders,
                       f"{user} has {traits.get('orders')} orders, not {orders}")
        revenue = sum(device.revenue for device in by_user[user])
        verdict.demand((traits.get("revenue") or 0) == revenue,
                       f"{user} has revenue {traits.get('revenue')}, not {revenue}")
        ids = worker.person(f"user_id:{user}", "external_ids", "?limit=100")["data"]
        known = {one["id"] for one in ids}
        for device in by_user[user]:
            verdict.demand(device.anonymous in known, f"{user} is not known as {device.anonymous}")


def _same(
    verdict: Verdict, what: str, found: Counter[str], wanted: set[str], maybe: set[str]
) -> None:
    lost = [id for id in wanted if not found[id]]
    twice = [id for id, count in found.items() if count > 1]
    strange = [id for id in found if id not in wanted and id not in maybe]
    verdict.demand(not lost, f"{what} lacks {len(lost)}: {sorted(lost)[:3]}")
    verdict.demand(not twice, f"{what} has {len(twice)} twice: {sorted(twice)[:3]}")
    verdict.demand(not strange, f"{what} has {len(strange)} that nobody sent: {strange[:3]}")
    verdict.lost += len(lost)
    verdict.twice += len(twice)


# ---- what the webhook got ------------------------------------------------------------------------
def _messages(
    verdict: Verdict, sink: Sink, devices: list[Device], accepted: set[str], maybe: set[str],
    strict: list[Device],
) -> None:
    calls, told = sink.of("calls"), sink.of("told")
    verdict.messages = len(calls) + len(told)
    ids = {message["messageId"] for message in (*calls, *told)}
    verdict.repeated = verdict.messages - len(ids)
    first = _firsts(verdict, calls)
    lost = accepted - first.keys()
    verdict.demand(not lost, f"the webhook lacks {len(lost)} calls: {sorted(lost)[:3]}")
    strange = first.keys() - accepted - maybe
    verdict.demand(not strange, f"the webhook got {len(strange)} calls that nobody sent")
    order: dict[str, list[int]] = {}
    for message in first.values():
        number = message.get("properties", {}).get("number") or 4
        order.setdefault(message["anonymousId"], []).append(number)
    for device in strict:
        numbers = order.get(device.anonymous, [])
        verdict.demand(numbers == sorted(numbers), f"calls of {device.anonymous} out of order")
    _told(verdict, list(_firsts(verdict, told).values()), devices, maybe)


def _firsts(verdict: Verdict, messages: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the messages by id in order of first arrival; a repeat must be the same message."""
    first: dict[str, dict[str, Any]] = {}
    for message in messages:
        before = first.setdefault(message["messageId"], message)
        verdict.demand(before == message, f"{message['messageId']} came with two contents")
    return first


def _told(
    verdict: Verdict, messages: list[dict[str, Any]], devices: list[Device], maybe: set[str]
) -> None:
    """What the platform itself had to say follows from what each person did."""
    by_user: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        if "userId" in message:
            by_user.setdefault(message["userId"], []).append(message)
    users: dict[str, list[Device]] = {}
    for device in devices:
        if device.logged_in:
            users.setdefault(device.user, []).append(device)
    for user, own in users.items():
        if maybe and any(set(device.calls) & maybe for device in own):
            continue
        _told_to(verdict, user, by_user.get(user, []), own)


def _told_to(
    verdict: Verdict, user: str, messages: list[dict[str, Any]], own: list[Device]
) -> None:
    names = Counter(message["event"] for message in messages)
    wanted = int(any(device.signed_up for device in own))
    for name in ("Welcome", "Welcome back"):
        verdict.demand(names[name] == wanted, f"{user} got {names[name]} {name}, not {wanted}")
    order = [message["event"] for message in messages if message["event"].startswith("Welcome")]
    verdict.demand(order == sorted(order), f"{user} was welcomed back first")
    orders = sum(device.orders for device in own)
    sums = [message["properties"]["revenue"] for message in messages
            if message["event"] == "Trait Computed"]
    total = sum(device.revenue for device in own)
    verdict.demand(sums == sorted(set(sums)), f"revenue of {user} told out of order")
    verdict.demand((sums[-1:] or [0]) == [total], f"{user}: revenue {sums[-1:]}, not {total}")
    for audience in ("buyers", "recent"):
        steps = [message["event"] for message in messages
                 if message["properties"].get("audience_key") == audience]
        want = ["Audience Entered", "Audience Exited"] * len(steps)
        verdict.demand(steps == want[: len(steps)], f"{user} in {audience}: {steps}")
        if audience == "buyers":
            verdict.demand(len(steps) == min(orders, 1), f"{user} in buyers: {steps}")
        else:
            verdict.demand(len(steps) % 2 == 0, f"{user} never left recent: {steps}")


# ---- once the worker has stopped -----------------------------------------------------------------
def judge_stopped(
    verdict: Verdict, worker: Worker, accepted: list[str], maybe: Iterable[str] = (),
    *, forgets: bool = False,
) -> None:
    """Judge the folder: the tables, the archive, and the digest against an undisturbed replay of a
    copy of the log, from its first record; ``forgets``: from the oldest base."""
    wanted, perhaps = set(accepted), set(maybe)
    store = RocksStore(worker.data / "state", read_only=True)
    try:
        found = Counter(key[key.index(0) + 9:].decode()
                        for key, _ in StoreReader(store).scan(HISTORY))
    finally:
        del store
    _same(verdict, "all histories", found, wanted, perhaps)
    archived: Counter[str] = Counter()
    for path in sorted((worker.data / "archive").glob("*.gz")):
        with gzip.open(path) as lines:
            archived.update(json.loads(line)["messageId"] for line in lines)
    _same(verdict, "the archive", archived, wanted, perhaps)
    verdict.digest = worker.digest()
    for seed in ("1", "2"):
        found_digest = replayed(worker, bases=forgets, PYTHONHASHSEED=seed)
        verdict.demand(found_digest == verdict.digest,
                       f"digest {verdict.digest}, an undisturbed run gives {found_digest}")
    first = min(worker.data.glob("log/topics/raw/0/*.seg"))
    verdict.demand(not forgets or int(first.stem) > 0, "the log has forgotten nothing")


def replayed(worker: Worker, *, bases: bool = False, **env: str) -> str:
    """Return the digest of a replay over a copy of the log, from its first record or from the
    oldest base."""
    copy = worker.data.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    shutil.copytree(worker.data / "log", copy / "log")
    (copy / "log" / "lock").unlink()
    if bases:
        shutil.copytree(worker.data / "bases", copy / "bases")
    found = worker.told("rebuild", WATERSMEET_DATA=str(copy), **env).strip()
    shutil.rmtree(copy)
    return found


def folder_of(path: str | Path) -> Path:
    """Return an empty folder."""
    folder = Path(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
