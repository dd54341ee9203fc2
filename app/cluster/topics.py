"""What the topics of a workspace are called on Kafka, and who may write what."""

from app.partitions import SINGLE, STAGES
from transport.kafka import Topic

GENERATION = 1
"""The topics of another number of partitions are another generation's."""
PREFIX = f"watersmeet.{GENERATION}"
GROUP = f"{PREFIX}.workers"


def inbox(stage: str) -> str:
    """Return the topic of a stage's inboxes."""
    return f"{PREFIX}.{stage}"


def changelog(stage: str) -> str:
    """Return the topic of a stage's changelogs."""
    return f"{PREFIX}.{stage}.changelog"


def all_topics(partitions: int) -> list[Topic]:
    """Return all topics there must be."""
    counts = {stage: 1 if stage in SINGLE else partitions for stage in STAGES}
    return [
        *(Topic(inbox(stage), count) for stage, count in counts.items()),
        *(Topic(changelog(stage), count, changelog=True) for stage, count in counts.items()),
    ]


def stages_of(number: int) -> list[str]:
    """Return the stages that have a partition of this number."""
    return [stage for stage in STAGES if number == 0 or stage not in SINGLE]


def transactional_id(number: int) -> str:
    """Return the id by which the broker knows the one writer of a number's changelogs."""
    return f"{PREFIX}.{number}"
