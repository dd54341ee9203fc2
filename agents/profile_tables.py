"""The tables of stage `profile` that others read: the Profile API and the console."""

from typing import Any

from journeys.instance import Running
from profiles.profile import Occurrence, Profile
from runtime.stage import Table

PROFILES: Table[Profile] = Table("profiles", b"Pp", Profile)
"""Profile id -> the profile, or its tombstone."""

HISTORY: Table[Occurrence] = Table("history", b"Ph", Occurrence, cached=False)
"""`profiles.profile.history_key` -> the event as it was applied."""

MEMBERS: Table[int] = Table("members", b"Pm", int, cached=False)
"""(audience key, NUL, profile id) -> the instant of entry."""

CONDITIONS: Table[Any] = Table("conditions", b"Pc", Any)
"""(profile id, NUL, leaf id) -> what a condition remembers of this person."""

RUNNING: Table[Running] = Table("running", b"Pr", Running)
"""Profile id -> the person's journey instances."""

TIMERS: Table[bytes] = Table("timers", b"Pt", bytes, cached=False)
"""(instant in 8 bytes, profile id) -> nothing: the profile's `armed_ms`, in order of time."""

SWEEP: Table[bytes] = Table("sweep", b"Pw", bytes, cached=False)
"""One row while profiles are being brought up to new definitions: the last one that is."""
