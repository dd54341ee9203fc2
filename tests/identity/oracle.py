"""Identity 5 read word by word, slow and plain: what `identity.match` and the stage must equal.

Shares no code with them. A profile is a dict; time is a number of milliseconds; each pass of the
loop counts everything anew.
"""

from typing import Any

PERIOD_DAYS = {"annually": 365, "monthly": 30, "weekly": 7, "daily": 1}


class Oracle:
    """The space's profiles: name -> born, merges, ids {(type, value): mapped at}."""

    def __init__(self, order: tuple[str, ...]) -> None:
        self.order = order
        self.limits: dict[str, tuple[int, str]] = {}
        self.targeted = False
        self.merge_cap, self.mapping_cap = 100, 1000
        self.profiles: dict[str, dict[str, Any]] = {}
        self.redirects: dict[str, str] = {}

    def event(self, ids: list[tuple[str, str]], at: int, name: Any) -> dict[str, Any]:
        """Resolve one event; ``name`` gives the id of a new profile from its best id."""
        left = sorted(ids, key=self._rank)
        demoted, kinds = [], []
        while True:
            matched = self._matched(left)
            wrong = self._violations(left, matched, at)
            if not wrong:
                break
            gone = left[-1]
            if self.targeted:
                for id in reversed(left):
                    rest = [other for other in left if other != id]
                    if wrong - self._violations(rest, self._matched(rest), at):
                        gone = id
                        break
            left = [id for id in left if id != gone]
            demoted.append(gone)
            kinds.append(wrong)
        lost = []
        if not matched:
            target = name(left[0])
            self.profiles[target] = {"born": at, "merges": 0, "ids": {}}
        else:
            by_age = sorted(matched, key=lambda one: (self.profiles[one]["born"], one))
            target, lost = by_age[0], by_age[1:]
        here = self.profiles[target]
        for other in lost:
            gone = self.profiles.pop(other)
            here["ids"].update(gone["ids"])
            here["merges"] += gone["merges"] + 1
            self.redirects[other] = target
        for id in left:
            here["ids"].setdefault(id, at)
        return {"profile": target, "used": left, "demoted": demoted, "kinds": kinds, "lost": lost}

    def _rank(self, id: tuple[str, str]) -> tuple[int, str]:
        place = self.order.index(id[0]) if id[0] in self.order else len(self.order)
        return place, id[0] if place == len(self.order) else ""

    def _matched(self, ids: list[tuple[str, str]]) -> set[str]:
        return {name for name, one in self.profiles.items() for id in ids if id in one["ids"]}

    def _violations(
        self, ids: list[tuple[str, str]], matched: set[str], at: int
    ) -> set[tuple[str, str]]:
        union = {}
        for name in matched:
            union.update(self.profiles[name]["ids"])
        for id in ids:
            union.setdefault(id, at)
        wrong = set()
        for type in {type for type, _ in union}:
            limit, per = self.limits.get(type, (1 if type == "user_id" else 5, "ever"))

            def count(mapped: dict[tuple[str, str], int], type: str = type, per: str = per) -> int:
                since = None if per == "ever" else at - PERIOD_DAYS[per] * 86_400_000
                return sum(
                    1 for id, when in mapped.items()
                    if id[0] == type and (since is None or when > since)
                )  # fmt: skip

            today = max((count(self.profiles[name]["ids"]) for name in matched), default=0)
            if count(union) > limit and count(union) > today:
                kind = "value_limit_exceeded" if per == "ever" else "value_time_limit_exceeded"
                wrong.add((kind, type))
        merges = sum(self.profiles[name]["merges"] for name in matched) + len(matched) - 1
        if len(matched) > 1 and merges > self.merge_cap:
            wrong.add(("merge_limit_exceeded", ""))
        biggest = max((len(self.profiles[name]["ids"]) for name in matched), default=0)
        if len(union) > self.mapping_cap and len(union) > biggest:
            wrong.add(("mapping_limit_exceeded", ""))
        return wrong
