"""What a seed is like: how much happens, what fails and how often, who is slow."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, fields

from tests.sim.workspace import DAY, HOUR, MINUTE


@dataclass
class Odds:
    """What a seed is like. A quiet one has no faults, another one kind only, a storm all."""

    weights: dict[str, float]
    calls: int
    crash: float = 0.0
    power: float = 0.0
    disk: float = 0.0
    lost_answer: float = 0.0
    repeat: float = 0.0
    mood: str = "fine"
    repeat_results: float = 0.0
    jumps: bool = False
    editions: bool = False
    bases: bool = False
    damage: float = 0.0
    segment_bytes: int = 1 << 20
    commit_every: int = 1

    def calm(self, names: Iterable[str]) -> None:
        """Take kinds of trouble out, by the name of the field."""
        for field in fields(self):
            if field.name in names:
                setattr(self, field.name, field.default)


def odds_of(rng: random.Random, long: bool) -> Odds:
    calls = rng.choice((4, 8, 15, 25, 40, 60)) if not long else rng.choice((250, 500))
    weights = {
        "send": 4.0, "sync": 3.0, "answer": 6.0, "apply": 8.0, "commit": 3.0, "persist": 0.3,
        "beat": 1.5, "launch": 2.0, "land": 2.0, "report": 1.0, "wait": 1.5,
    }  # fmt: skip
    # A slow part is what lets the holes open that an even schedule hardly ever meets.
    for _ in range(rng.choice((0, 1, 1, 2))):
        weights[rng.choice(sorted(weights))] *= rng.choice((0.1, 0.3, 5.0))
    odds = Odds(weights, calls)
    odds.commit_every = rng.choice((1, 1, 3, 20))
    odds.mood = rng.choice(("fine", "fine", "shaky", "strict", "dead"))
    kinds = ["crash", "power", "disk", "network", "results", "jumps", "editions", "bases",
             "damage"]  # fmt: skip
    kind = rng.choice(("quiet", "one", "one", "storm"))
    chosen = {"quiet": [], "one": [rng.choice(kinds)], "storm": kinds}[kind]
    if "crash" in chosen:
        odds.crash = rng.choice((0.002, 0.006, 0.02))
        odds.power = rng.choice((0.0, 0.5))
    if "power" in chosen:
        odds.crash = max(odds.crash, rng.choice((0.002, 0.006, 0.02)))
        odds.power = rng.choice((0.5, 1.0))
    if "disk" in chosen:
        odds.disk = rng.choice((0.01, 0.05))
    if "network" in chosen:
        odds.lost_answer = rng.choice((0.1, 0.4))
        odds.repeat = rng.choice((0.0, 0.1))
    if "results" in chosen:
        odds.repeat_results = rng.choice((0.1, 0.5))
        odds.mood = rng.choice(("shaky", "strict", "dead"))
    odds.jumps = "jumps" in chosen and rng.random() < 0.5
    odds.editions = "editions" in chosen
    odds.bases = "bases" in chosen
    if "damage" in chosen:
        odds.crash = max(odds.crash, 0.01)
        odds.damage = 0.2
    if rng.random() < 0.4:
        odds.segment_bytes = rng.choice((1500, 4000, 20_000))
    return odds


WAITS = (0, 1, 20, 200, 1000, 10_000, MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, DAY,
         2 * DAY, 7 * DAY, 7 * DAY + 1)  # fmt: skip
WAIT_ODDS = (20, 30, 30, 20, 12, 6, 5, 4, 3, 3, 2, 2, 1, 1, 1)
JUMPS = (-5 * MINUTE, 5 * MINUTE, -DAY, DAY, -10 * 365 * DAY, 10 * 365 * DAY)
