"""What the topics of a workspace are called on Kafka, and who may write what."""

from msgspec import Struct

from app.partitions import SINGLE, STAGES
from transport.kafka import Topic

GENERATION = 1
"""The topics of another number of partitions are another generation's."""


class Names(Struct, frozen=True):
    """The names of one workspace's topics, which all begin alike."""

    workspace: str

    @property
    def _start(self) -> str:
        return f"{self.workspace}.{GENERATION}"

    @property
    def group(self) -> str:
        """Return the consumer group in which the workers agree who owns what."""
        return f"{self._start}.workers"

    def inbox(self, stage: str) -> str:
        """Return the topic of a stage's inboxes."""
        return f"{self._start}.{stage}"

    def changelog(self, stage: str) -> str:
        """Return the topic of a stage's changelogs."""
        return f"{self._start}.{stage}.changelog"

    def topics(self, partitions: int) -> list[Topic]:
        """Return all topics there must be."""
        counts = {stage: 1 if stage in SINGLE else partitions for stage in STAGES}
        return [
            *(Topic(self.inbox(stage), count) for stage, count in counts.items()),
            *(Topic(self.changelog(stage), count, changelog=True)
              for stage, count in counts.items()),
        ]

    def transactional_id(self, number: int) -> str:
        """Return the id by which the broker knows the one writer of a number's changelogs."""
        return f"{self._start}.{number}"


def stages_of(number: int) -> list[str]:
    """Return the stages that have a partition of this number."""
    return [stage for stage in STAGES if number == 0 or stage not in SINGLE]
