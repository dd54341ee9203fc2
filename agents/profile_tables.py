"""The tables of stage `profile` that others read: the Profile API and the console."""

from profiles.profile import Occurrence, Profile
from runtime.stage import Table

PROFILES: Table[Profile] = Table("profiles", b"Pp", Profile)
"""Profile id -> the profile, or its tombstone."""

HISTORY: Table[Occurrence] = Table("history", b"Ph", Occurrence, cached=False)
"""`profiles.profile.history_key` -> the event as it was applied."""

MEMBERS: Table[int] = Table("members", b"Pm", int, cached=False)
"""(audience key, NUL, profile id) -> the instant of entry."""
