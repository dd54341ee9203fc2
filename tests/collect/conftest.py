"""The tracking API, served."""

import pytest

from tests.collect.standin import Api


@pytest.fixture
async def api():
    async with Api() as running:
        yield running
