"""The read side, served over HTTP."""

import pytest
from aiohttp import ClientSession, test_utils

from tests.web.reading import Caller, Platform


@pytest.fixture
def platform():
    return Platform()


@pytest.fixture
async def call(platform):
    server = test_utils.TestServer(platform.application())
    await server.start_server()
    async with ClientSession() as session:
        yield Caller(session, str(server.make_url("")).rstrip("/"))
    await server.close()
