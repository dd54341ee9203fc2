"""`digest`, `rebuild`, `base` and `poison`: what an operator asks of the state.

With a worker running they go through its socket; without one they open the folder themselves.
"""

import os
import sys
from typing import Any

import click

WAIT_SECONDS = 3600.0


def _settings() -> Any:
    from app.settings import from_environment

    settings = from_environment(os.environ)
    if settings.on_kafka:
        _fail("this command is not supported yet on Kafka")
    return settings


def _ask(command: str, args: dict[str, Any] | None = None) -> Any:
    """Return the running worker's answer; None when none runs."""
    from app.commands import socket_of
    from transport import control

    try:
        return control.call(socket_of(_settings().data), command, args or {}, WAIT_SECONDS)
    except control.NoWorker:
        return None
    except control.CommandRefused as error:
        _fail(str(error))


def _fail(text: str) -> Any:
    click.echo(text, err=True)
    sys.exit(1)


class _Folder:
    """The data folder, opened by this command: its lock keeps a worker away meanwhile."""

    def __enter__(self) -> "_Folder":
        from app import state
        from app.engine import TOPIC
        from transport.log import Log, LogRefused

        self.settings = _settings()
        if not self.settings.log_folder.exists():
            _fail(f"{self.settings.log_folder}: there is no log here; start one with: make run")
        try:
            self.log = Log.open(self.settings.log_folder)
        except LogRefused as error:
            _fail(str(error))
        self.log.create(TOPIC, 1)
        self.state = state
        return self

    def __exit__(self, *_error: object) -> None:
        self.log.close()

    def store(self) -> Any:
        """Return the state, brought up to the log."""
        data = self.settings.data
        while True:
            try:
                store = self.state.open_state(data, self.log)
            except self.state.StateRefused as error:
                _fail(str(error))
            try:
                self.state.replay(store, self.log)
                self.state.digest(store)  # reads all of it
            except Exception as error:
                if not self.state.unreadable(error):
                    raise
                self.state.distrust(data, str(error))
            else:
                return store


@click.command("digest")
def digest() -> None:
    """Print a hash over all logical state, and the record of the log it stands at.

    Two states with one hash are equal to the byte.
    """
    answer = _ask("digest")
    if answer is None:
        with _Folder() as folder:
            store = folder.store()
            answer = {"digest": folder.state.digest(store),
                      "applied": folder.log.durable_end("raw", 0) - 1}
            store.close()
    click.echo(f"{answer['digest']} at record {answer['applied']}")


@click.command("rebuild")
def rebuild() -> None:
    """Throw the state away and replay the log from the oldest base; nothing is sent again.

    The worker must be stopped. Prints the digest, which is that of before.
    """
    with _Folder() as folder:
        shown = click.get_text_stream("stderr")

        def progress(applied: int) -> None:
            if shown.isatty():
                click.echo(f"\rrecord {applied} ", err=True, nl=False)

        try:
            found = folder.state.rebuild(folder.settings.data, folder.log, progress)
        except folder.state.StateRefused as error:
            _fail(str(error))
        click.echo(f"{found} at record {folder.log.durable_end('raw', 0) - 1}")


@click.command("base")
def base() -> None:
    """Copy the state as the point from which `rebuild` starts, and verify the copy by a replay.

    The log may forget what lies before the oldest of the two bases that are kept.
    """
    answer = _ask("base")
    if answer is None:
        with _Folder() as folder:
            import msgspec

            from app import bases

            store = folder.store()
            try:
                bases.copy(folder.settings.data, store)
            finally:
                store.close()
            try:
                answer = msgspec.to_builtins(bases.verify(folder.settings.data, folder.log))
            except bases.BaseRefused as error:
                _fail(str(error))
    click.echo(f"base at record {answer['applied']}, digest {answer['digest']}: verified")


@click.group("poison")
def poison() -> None:
    """Events that broke a stage: set aside, counted, kept until they are put back."""


@poison.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def poison_list(as_json: bool) -> None:
    """Show the events set aside, with the stage and the error."""
    import json

    rows = _ask("poison list")
    if rows is None:
        from app.commands import listed
        from app.reader import StoreReader

        with _Folder() as folder:
            store = folder.store()
            rows = listed(StoreReader(store))
            store.close()
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        click.echo(f"{row['id']}  {row['stage']}  {row['error']}")
    click.echo(f"{len(rows)} set aside")


@poison.command("retry")
@click.argument("id")
def poison_retry(id: str) -> None:
    """Take a set-aside event up again, after what broke was mended. Needs a running worker."""
    answer = _ask("poison retry", {"id": id})
    if answer is None:
        _fail("no worker runs on this data folder; start it first")
    if not answer["applied"]:
        _fail(f"{id} was set aside again: {answer['error']}")
    click.echo(f"{id} is applied")
