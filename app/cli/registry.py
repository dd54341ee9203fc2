"""The commands of `faust -A app`, beside Faust's own."""

from faust.cli.base import cli
from faust.cli.worker import worker

from app.cli.apply import apply
from app.cli.check import check
from app.cli.state import base, digest, poison, rebuild

COMMANDS = (check, apply, digest, rebuild, base, poison)


def register() -> None:
    """Add them to Faust's group; the worker's greeting is for people, not for its log."""
    worker.redirect_stdouts = False
    for command in COMMANDS:
        cli.add_command(command)
