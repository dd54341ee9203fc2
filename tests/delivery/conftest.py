from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.delivery.rig import Rig, Sink


@pytest.fixture
async def sinks() -> AsyncIterator[Callable[[], Any]]:
    """Return a maker of sinks; they are stopped at the end."""
    made: list[Sink] = []

    async def make() -> Sink:
        made.append(await Sink().start())
        return made[-1]

    yield make
    for sink in made:
        await sink.stop()


@pytest.fixture
async def rigs() -> AsyncIterator[Callable[..., Rig]]:
    """Return a maker of workspaces; their outbounds are stopped at the end."""
    made: list[Rig] = []

    def make(**given: Any) -> Rig:
        made.append(Rig(**given))
        return made[-1]

    yield make
    for rig in made:
        await rig.stop()
