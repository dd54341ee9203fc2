"""`faust -A app apply`: puts the folder's definitions in force on Kafka (protocol 10)."""

import asyncio
import os
import sys
import time

import click


@click.command("apply")
def apply() -> None:
    """Put the definitions of WATERSMEET_CONFIG in force, on Kafka, for all workers.

    On the embedded log a changed folder is taken in at the next start.
    """
    # Imported here: other commands and `--help` start without them.
    from app.settings import WrongSetting, from_environment

    try:
        settings = from_environment(os.environ)
    except WrongSetting as error:
        _fail(str(error))
    if not settings.on_kafka:
        _fail("apply is for Kafka; on the embedded log the worker takes the folder at its start")
    asyncio.run(_apply(settings))


async def _apply(settings: object) -> None:
    from app.cluster import definitions
    from app.cluster.topics import Names
    from app.settings import Settings
    from transport import kafka

    assert isinstance(settings, Settings)
    names = Names(settings.workspace)
    try:
        define = definitions.read(settings.config, os.environ)
        reached = kafka.parse(settings.broker, os.environ)
        topics = names.topics(settings.partitions)
        made = await kafka.ensure_topics(reached, topics)
        outbox = kafka.Outbox(reached)
        await outbox.open()
        await definitions.enter(
            outbox, names, settings.partitions, define, time.time_ns() // 1_000_000
        )
        await outbox.close()
    except (definitions.Unusable, ValueError, kafka.TopicDiffers, kafka.NotReached,
            kafka.Broken) as error:
        _fail(str(error))
    if made:
        click.echo("no worker had begun here: the topics were made")
    click.echo(f"definitions {define.hash} are on their way to {settings.partitions} partitions")


def _fail(text: str) -> None:
    click.echo(text, err=True)
    sys.exit(1)
