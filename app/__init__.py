"""Watersmeet: `faust -A app worker` runs it, `faust -A app --help` lists its commands.

Importing this package builds the Faust application and opens nothing.
"""

import mode.loop

mode.loop.use("uvloop")

from app.cli.registry import register  # noqa: E402, the event loop comes first
from app.wiring import build  # noqa: E402

app = build()
register()

__all__ = ["app"]
