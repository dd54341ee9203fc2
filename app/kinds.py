"""Which envelopes the raw log carries, and which stages their items go to."""

from agents.records import Continue, Define, Received, Redrive, Result, Tick
from runtime.fused import Kind

KINDS = {
    "event": Kind(Received, ("intake",), control=False),
    "result": Kind(Result, ("delivery",)),
    "tick": Kind(Tick, ("profile",), closes=True),
    "define": Kind(Define, ("delivery", "profile"), define=True),
    "continue": Kind(Continue, ("profile",)),
    "redrive": Kind(Redrive, (), redrive=True),
}
