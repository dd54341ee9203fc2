"""All that is served on the worker's one port: the tracking API, the Profile API, operations."""

from typing import TYPE_CHECKING

from aiohttp import web

from agents.identity import resolve
from app.reader import Reader
from app.web import ingest, operations, profile_api
from app.web.access import Access, Rate, dress
from app.web.asking import Run, at_once
from app.web.refusals import Refusals

if TYPE_CHECKING:
    from app.cluster.worker import ClusterWorker
    from app.worker import Worker

BODY_BYTES = 1 << 20
SPACE = "default"


def build(
    worker: "Worker | ClusterWorker", token_hash: bytes, *, run: Run = at_once,
    own: Reader | None = None,
) -> web.Application:
    """Return the web application of a worker.

    ``run`` runs what reads, ``own`` reads what this process alone holds, see `operations.Ports`.
    """
    app = web.Application(middlewares=[dress], client_max_size=BODY_BYTES)
    access = Access(token_hash)
    refusals = Refusals()

    def kinds() -> dict[str, str]:
        definitions = worker.definitions().definitions
        return {
            **dict.fromkeys(definitions.computed_traits, "computed_trait"),
            **dict.fromkeys(definitions.audiences, "audience"),
        }

    def normalise(type: str, value: str) -> str | None:
        return worker.definitions().identity.normalised(type, value) or None

    ingest.add_routes(app, worker, refusals=refusals)
    profile_api.add_routes(app, profile_api.Ports(
        access=access, rate=Rate(), space=SPACE, reader=worker.reader, resolve=resolve,
        normalise=normalise, kinds=kinds, now_ms=worker.now_ms, run=run,
    ))
    operations.add_routes(app, operations.Ports(
        access=access, space=SPACE, reader=worker.reader, amiss=worker.amiss,
        audiences=lambda: {
            key: one.name or key for key, one in worker.definitions().definitions.audiences.items()
        },
        journeys=lambda: {
            key: one.name or key for key, one in worker.definitions().definitions.journeys.items()
        },
        refused=refusals.by_reason,
        in_flight=worker.in_flight,
        gauges=worker.gauges,
        now_ms=worker.now_ms,
        run=run,
        own=own,
    ))
    profile_api.add_last_routes(app, access)
    return app
