"""Workers on Kafka killed, stopped, joined and left while an SDK sends.

    python -m tests.cluster.chaos [--rounds N] [--seed S] [--workers W]

Each round does one thing: kills a worker at a random moment or at a named step, kills the broker,
or both, or has a worker leave or join. At the end every call that was answered 200 must stand in
exactly one history, once, and nothing else may.
"""

import argparse
import http.client
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.blackbox.conftest import SECRET, WEB, example
from tests.blackbox.process import Worker
from tests.chaos.sink import Sink
from tests.cluster.test_cluster_worker import counted
from tests.kafka.broker import Kafka

PARTITIONS = 4
VISITORS = 24
STEPS = ("lot.applied", "lot.sent", "lot.logged", "lot.written")
BACK_SECONDS = 60


class Sender(threading.Thread):
    """Sends batches to whichever worker answers, each again until it is answered."""

    def __init__(self, workers: list[Worker], seed: int) -> None:
        super().__init__(daemon=True)
        self.workers = workers
        self.rng = random.Random(seed)
        self.answered: Counter[str] = Counter()
        """Visitor -> calls answered 200."""
        self.number = 0
        self.again = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            calls = []
            for _ in range(self.rng.randint(1, 40)):
                visitor = f"v{self.rng.randrange(VISITORS)}"
                calls.append({
                    "type": "track", "event": "Product Viewed", "properties": {"name": "hat"},
                    "anonymousId": visitor, "messageId": f"m{self.number}",
                })
                self.number += 1
            while not self._sent(calls):
                self.again += 1
                time.sleep(0.1)
            for call in calls:
                self.answered[call["anonymousId"]] += 1
            time.sleep(0.01)

    def _sent(self, calls: list[dict]) -> bool:
        worker = self.rng.choice(self.workers)
        if not worker.alive:
            return False
        try:
            return worker.ask("POST", "/v1/batch", {"batch": calls}, WEB + ":", 15)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class Chaos:
    """One run."""

    def __init__(self, folder: Path, seed: int, count: int, sink: Sink) -> None:
        self.rng = random.Random(seed)
        self.kafka = Kafka(folder / "kafka").start()
        config = example(folder / "config", sink.url)
        self.workers = [
            Worker(folder / f"w{n}", config, WEBHOOK_SECRET=SECRET,
                   WATERSMEET_BROKER=self.kafka.url, WATERSMEET_PARTITIONS=str(PARTITIONS))
            for n in range(count)
        ]
        self.sender = Sender(self.workers, seed)
        self.done: Counter[str] = Counter()

    def run(self, rounds: int) -> list[str]:
        """Return what is wrong at the end."""
        for worker in self.workers:
            worker.start()
        self.sender.start()
        for number in range(rounds):
            time.sleep(self.rng.uniform(0.5, 3))
            what = self.rng.choice(("random", "random", "step", "step", "leave", "broker", "both"))
            print(f"round {number}: {what}", flush=True)
            getattr(self, f"_{what}")()
            self.done[what] += 1
            self._progress()
        self.sender.ended.set()
        self.sender.join(60)
        return self._verdict()

    def _random(self) -> None:
        worker = self.rng.choice(self.workers)
        worker.kill()
        worker.launch()

    def _step(self) -> None:
        worker = self.rng.choice(self.workers)
        worker.kill()
        worker.launch(WATERSMEET_KILL_AT=f"{self.rng.choice(STEPS)}:{self.rng.randint(1, 40)}")
        worker.died(20)
        worker.kill()
        worker.launch()

    def _leave(self) -> None:
        worker = self.rng.choice(self.workers)
        if worker.ready(BACK_SECONDS):
            worker.stop(40)
        time.sleep(self.rng.uniform(0, 2))
        worker.launch()

    def _broker(self) -> None:
        self.kafka.kill()
        time.sleep(self.rng.uniform(0, 1.5))
        self.kafka.restart()

    def _both(self) -> None:
        worker = self.rng.choice(self.workers)
        worker.kill()
        self._broker()
        worker.launch()

    def _progress(self) -> None:
        """After each round, something more is answered within a minute."""
        before = self.sender.answered.total()
        until = time.monotonic() + BACK_SECONDS
        for worker in self.workers:
            if not worker.alive:
                worker.launch()
        while self.sender.answered.total() == before:
            assert time.monotonic() < until, "nothing is answered any more"
            for worker in self.workers:
                if not worker.alive:
                    self.done["ended by itself"] += 1
                    worker.launch()
            time.sleep(0.1)

    def _verdict(self) -> list[str]:
        for worker in self.workers:
            if not worker.alive:
                worker.launch()
            assert worker.ready(BACK_SECONDS), f"it does not come back:\n{worker.printed()[-3000:]}"
        asked = self.workers[0]
        wanted = self.sender.answered
        until = time.monotonic() + 120
        while True:
            found = {v: counted(asked, f"anonymous_id:{v}") for v in wanted}
            if found == dict(wanted) or time.monotonic() > until:
                break
            time.sleep(1)
        time.sleep(2)
        found = {v: counted(asked, f"anonymous_id:{v}") for v in wanted}
        lost = sum(max(0, wanted[v] - found[v]) for v in wanted)
        twice = sum(max(0, found[v] - wanted[v]) for v in wanted)
        print(f"done: {dict(self.done)}; batches sent again {self.sender.again}\n"
              f"events accepted {wanted.total()}, applied {sum(found.values())}, "
              f"lost {lost}, twice {twice}")
        return [f"{v}: {found[v]} of {wanted[v]}" for v in wanted if found[v] != wanted[v]]

    def close(self) -> None:
        """End all."""
        self.sender.ended.set()
        for worker in self.workers:
            worker.kill()
        self.kafka.close()


def main() -> int:
    """Run from the command line; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--workers", type=int, default=3)
    asked = parser.parse_args()
    print(f"seed {asked.seed}")
    with tempfile.TemporaryDirectory() as folder, Sink(shaky=False) as sink:
        chaos = Chaos(Path(folder), asked.seed, asked.workers, sink)
        try:
            wrong = chaos.run(asked.rounds)
        finally:
            for worker in chaos.workers:
                print(worker.printed()[-1500:] if sys.exc_info()[0] else "", end="")
            chaos.close()
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
