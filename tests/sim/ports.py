"""What the simulator puts in place of the worker's log rounds and clock."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transport.log import Log, NotDurable

if TYPE_CHECKING:
    from tests.sim.world import World

START_MS = 1_750_000_000_000


class Ticket:
    """A request that waits for its sync."""

    def __init__(self) -> None:
        self.done = False
        self.error: str | None = None

    def __await__(self) -> Iterator["Ticket"]:
        while not self.done:
            yield self


class SimLog(Log):
    """The log, whose rounds are started by the simulator: many requests, one sync."""

    world: "World"

    def append(self, *args: Any, **kwargs: Any) -> int:
        self.world.point("before append")
        offset = super().append(*args, **kwargs)
        self.world.point("after append")
        return offset

    async def flush(self, epoch: int | None = None) -> None:
        if self.trouble is not None or (epoch is not None and epoch != self.epoch):
            raise NotDurable(self.trouble or "the disk failed since this was appended")
        if self._dirty:
            ticket = Ticket()
            self.world.tickets.append(ticket)
            await ticket
            if ticket.error is not None:
                raise NotDurable(ticket.error)

    def sync(self) -> None:
        """One round: everything that waits becomes durable, or is told that it is not."""
        tickets, self.world.tickets = self.world.tickets, []
        error = None
        try:
            self.flush_inline()
        except NotDurable as why:
            error = str(why)
        for ticket in tickets:
            ticket.done, ticket.error = True, error


class SimClock:
    """The machine's clock, which may be set."""

    scripted = False

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms
