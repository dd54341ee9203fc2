"""What a running worker does for the command line, over the control socket."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from app.bases import BaseRefused
from app.replay import digest_of, rows_of
from runtime.fused import POISON, PROGRESS
from transport.control import CommandRefused, Handler

if TYPE_CHECKING:
    from app.worker import Worker

SOCKET = "control.sock"
PATIENCE_SECONDS = 5


def socket_of(data: Path) -> Path:
    """Return where the worker of a data folder listens for commands."""
    return data / SOCKET


def handlers(worker: "Worker") -> Mapping[str, Handler]:
    """Return the commands by name."""

    async def digest(_args: dict[str, Any]) -> Any:
        """The hash of the present state, and the record it stands at."""
        engine = worker.engine
        with contextlib.suppress(TimeoutError):  # under load there is always something more
            await asyncio.wait_for(engine.until_applied(), PATIENCE_SECONDS)
        rows, progress = rows_of(engine.store), worker.reader.get(PROGRESS, b"")
        found = await asyncio.to_thread(digest_of, rows)
        return {"digest": found, "applied": -1 if progress is None else progress.applied}

    async def base(_args: dict[str, Any]) -> Any:
        """Copy the state and verify the copy."""
        try:
            made = await worker.retention.base()
        except (BaseRefused, OSError) as error:
            raise CommandRefused(str(error)) from error
        return msgspec.to_builtins(made)

    async def poison_list(_args: dict[str, Any]) -> Any:
        """The events set aside."""
        return listed(worker.reader)

    async def poison_retry(args: dict[str, Any]) -> Any:
        """Take one up again."""
        id = str(args.get("id"))
        if worker.reader.get(POISON, id.encode()) is None:
            raise CommandRefused(f'no event is set aside as "{id}"; see: poison list')
        await worker.engine.redrive(id)
        await worker.engine.until_applied()
        left = worker.reader.get(POISON, id.encode())
        return {"id": id, "applied": left is None, "error": left.error if left else None}

    return {
        "digest": digest, "base": base, "poison list": poison_list, "poison retry": poison_retry,
    }


def listed(reader: Any) -> list[dict[str, Any]]:
    """Return what is known of each event set aside."""
    return [
        {
            "id": key.decode(), "stage": row.stage, "error": row.error, "at_ms": row.at_ms,
            "event": row.item.decode("utf-8", "replace"),
        }
        for key, row in reader.scan(POISON)
    ]
