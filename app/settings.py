"""What the operator sets, read from the environment once.

A wrong value is refused with the variable's name, what it was, and what it may be.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

DEFAULT_PORT = 6066
DEFAULT_LOG_BYTES = 8 << 30
DEFAULT_LOG_DAYS = 30
MOST_PARTITIONS = 256
_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class WrongSetting(Exception):
    """A setting cannot be used; the text names it and says how to mend it."""


class Settings(Struct, frozen=True):
    """The worker's surroundings."""

    data: Path
    config: Path
    broker: str
    host: str
    port: int
    token: str
    outbound_allow: tuple[Network, ...]
    log_bytes: int
    """WATERSMEET_LOG_BYTES, 8 GiB: above this size the log forgets its oldest records, once a
    verified base stands in for them and the archive has them. 0: it never does."""
    log_days: int
    """WATERSMEET_LOG_DAYS, 30: so does it with records older than this. 0: with none."""
    clock: Path | None
    """Tests only: a file with the instant in milliseconds that the worker takes for now."""

    workspace: str = "watersmeet"
    """On Kafka: how the names of all topics begin (`kafka://host:9092/NAME`)."""
    partitions: int = 8
    """WATERSMEET_PARTITIONS, 8: on Kafka, how many partitions each stage has. Set at the first
    start; a start with another number is refused."""

    session_seconds: int = 10
    """WATERSMEET_SESSION_SECONDS, 10: on Kafka, a worker that is silent for so long has lost its
    partitions to others."""

    @property
    def on_kafka(self) -> bool:
        """Return whether the log is Kafka."""
        return self.broker.startswith("kafka://")

    @property
    def log_folder(self) -> Path:
        """Return where the embedded log lies."""
        return Path(self.broker.removeprefix("embedded://"))

    @property
    def segment_bytes(self) -> int:
        """Return the size of the log's files: small enough that a part of them can go."""
        return min(128 << 20, max(64 << 10, self.log_bytes // 16)) if self.log_bytes else 128 << 20

    @property
    def state_folder(self) -> Path:
        """Return where the state lies: a cache of the log."""
        return self.data / "state"


def from_environment(env: Mapping[str, str]) -> Settings:
    """Return the settings. Raises WrongSetting."""
    data = Path(env.get("WATERSMEET_DATA") or "./data").absolute()
    broker = env.get("WATERSMEET_BROKER") or ""
    kafka = broker.startswith("kafka://")
    if broker and not kafka and not broker.startswith("embedded://"):
        raise WrongSetting(
            f'WATERSMEET_BROKER: "{broker}" is no broker: leave it unset for the embedded log, or '
            "give kafka://host:9092,host2:9092, or embedded:// and a folder"
        )
    if kafka and not env.get("WATERSMEET_TOKEN"):
        raise WrongSetting(
            "WATERSMEET_TOKEN: on Kafka it must be set, to the same on every worker"
        )
    servers, _, workspace = broker.removeprefix("kafka://").partition("/")
    if kafka and not _NAME.fullmatch(workspace or "watersmeet"):
        raise WrongSetting(
            f'WATERSMEET_BROKER: "{workspace}", with which all topics are to begin, must be '
            "letters, digits, - and _, at most 60"
        )
    folder = broker.removeprefix("embedded://")
    log = Path(folder).absolute() if folder else data / "log"
    partitions = _number(env, "WATERSMEET_PARTITIONS", 8)
    if not 1 <= partitions <= MOST_PARTITIONS:
        raise WrongSetting(
            f"WATERSMEET_PARTITIONS: {partitions} is not possible; give 1 to {MOST_PARTITIONS}"
        )
    port = env.get("WATERSMEET_PORT") or str(DEFAULT_PORT)
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise WrongSetting(f'WATERSMEET_PORT: "{port}" is not a port; give 1 to 65535')
    networks: list[Network] = []
    for text in (env.get("WATERSMEET_OUTBOUND_ALLOW") or "").split(","):
        if not text.strip():
            continue
        try:
            networks.append(ipaddress.ip_network(text.strip()))
        except ValueError as error:
            raise WrongSetting(
                f'WATERSMEET_OUTBOUND_ALLOW: "{text.strip()}" is not a network ({error}); '
                "give networks like 127.0.0.0/8, separated by commas"
            ) from error
    clock = env.get("WATERSMEET_CLOCK")
    return Settings(
        data=data,
        config=Path(env.get("WATERSMEET_CONFIG") or "./config").absolute(),
        broker=f"kafka://{servers}" if kafka else f"embedded://{log}",
        workspace=workspace or "watersmeet",
        host=env.get("WATERSMEET_HOST") or "127.0.0.1",
        port=int(port),
        token=env.get("WATERSMEET_TOKEN") or "",
        outbound_allow=tuple(networks),
        log_bytes=_number(env, "WATERSMEET_LOG_BYTES", DEFAULT_LOG_BYTES),
        log_days=_number(env, "WATERSMEET_LOG_DAYS", DEFAULT_LOG_DAYS),
        clock=Path(clock) if clock else None,
        partitions=partitions,
        session_seconds=_number(env, "WATERSMEET_SESSION_SECONDS", 10),
    )


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise WrongSetting(f'{name}: "{text}" is not a whole number; 0 means no limit')
    return int(text)
