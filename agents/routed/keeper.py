"""Stage `dedup`: the keeper of messageIds. Sees ids and instants, never an event.

Keyed by messageId, whatever visitor sends it: so of two events with one id the first in the
keeper's inbox wins, on whichever lanes they came (protocol 3).
"""

from agents.intake import SIGHTS, sight
from agents.routed.records import Ask, Verdict
from runtime.stage import Stage, State


def ask(state: State, question: Ask) -> None:
    """Answer by the question's own instant. Rule: collect C-33, C-35; protocol 3."""
    keep, repeat_of_ms = sight(state, question.message_id, question.timestamp_ms)
    verdict = Verdict(question.lane, question.place, keep, repeat_of_ms)
    state.out("intake", str(question.lane), verdict)


STAGE = Stage("dedup", {Ask: ask}, (SIGHTS,))
