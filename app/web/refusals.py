"""What was refused before the log, counted by source and reason; nothing else is kept of it."""

from collections.abc import Mapping

UNKNOWN = ""
"""The source of calls whose write key is missing or unknown."""


class Refusals:
    """Counters since this process began. Sources are keys of definitions, reasons our own words."""

    __slots__ = ("accepted", "calls", "requests", "retries")

    def __init__(self) -> None:
        """Begin at nothing."""
        self.accepted = 0
        """Calls answered 200 and durable."""
        self.calls: dict[tuple[str, str], int] = {}
        """(source, reason) -> calls refused."""
        self.requests: dict[str, int] = {}
        """Reason -> requests: those refused as a whole, and batches with a code of their own."""
        self.retries = 0
        """Requests that said they were a retry (`X-Retry-Count`)."""

    def call(self, source: str, reason: str, by: int = 1) -> None:
        """Count calls of a source that were refused."""
        key = (source, reason)
        self.calls[key] = self.calls.get(key, 0) + by

    def request(self, reason: str) -> None:
        """Count a request."""
        self.requests[reason] = self.requests.get(reason, 0) + 1

    def retry(self, count: str) -> None:
        """Count a request that says how many came before it. Rule: collect C-13."""
        if count.isascii() and count.isdigit() and count.strip("0"):
            self.retries += 1

    def by_reason(self) -> Mapping[str, int]:
        """Return reason -> calls refused, over all sources."""
        result: dict[str, int] = {}
        for (_, reason), count in self.calls.items():
            result[reason] = result.get(reason, 0) + count
        return result
