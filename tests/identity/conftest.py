"""Every example runs twice: each call a claim, and with intake's fast path before `identity`."""

import pytest

from tests.identity.graph import Graph


@pytest.fixture(params=["claims", "links"])
def graph(request):
    """Return what makes a space: call it with settings, or without."""
    made = []

    def make(**fields):
        made.append(Graph(links=request.param == "links", **fields))
        return made[-1]

    yield make
    for one in made:
        one.consistent()
