"""What must hold when a run has come to rest."""

from app.engine import TOPIC, runner_over
from app.reader import StoreReader
from app.state import digest, replay
from runtime.fused import SETTLED
from tests.sim.store import LaggingStore
from tests.sim.world import World


def check(world: World) -> None:
    """Raise Broken for the first promise that was not kept."""
    log, store, engine = world.log, world.store, world.engine
    found = digest(store)
    world.tell(f"digest {found}")
    world.demand(engine.runner.applied + 1 == log.durable_end(TOPIC, 0), "not all is applied")
    world.demand(engine.in_flight == 0, f"{engine.in_flight} events are in flight at rest")

    _balance(world)
    fresh = LaggingStore()
    runner = runner_over(fresh, log.identity)
    for offset, value in enumerate(world.journal):
        runner.apply(offset, value)
    runner.commit()
    world.demand(digest(fresh) == found, "the state is not that of an undisturbed run")
    if world.bases:
        rebuilt = LaggingStore(world.bases[0].rows)
        replay(rebuilt, log)
        world.demand(digest(rebuilt) == found, "a rebuild from the oldest base gives another state")


def _balance(world: World) -> None:
    reader = StoreReader(world.store)
    settled = {name: reader.counter(name) for name in SETTLED}
    logged = reader.counter("logged")
    world.demand(logged == sum(settled.values()), f"{logged} were logged, but {settled}")
