"""What a journey may ask about the person: traits, audiences, identifiers, read when asked."""

from typing import Any

from profiles.profile import Profile


class View:
    """A person as journeys see them: ``profile`` as it stands after the input, ``before`` as it
    stood before it; None: the input made the person known.

    Costs two references to make, so it may be made for every event. Rule: journeys V2, E7.
    """

    __slots__ = ("before", "profile")

    def __init__(self, profile: Profile, before: Profile | None) -> None:
        self.profile = profile
        self.before = before

    def trait(self, key: str) -> Any:
        """Return a trait's present value: a membership, computed, or custom; None when absent."""
        profile = self.profile
        membership = profile.memberships.get(key)
        if membership is not None:
            return membership.inside
        computed = profile.computed.get(key)
        if computed is not None:
            return computed.value
        custom = profile.traits.get(key)
        return None if custom is None else custom.value

    def inside(self, audience: str) -> bool:
        """Return whether the person is in the audience now."""
        membership = self.profile.memberships.get(audience)
        return membership is not None and membership.inside

    def inside_before(self, audience: str) -> bool:
        """Return whether the person was in the audience before the input (V2)."""
        if self.before is None:
            return False
        membership = self.before.memberships.get(audience)
        return membership is not None and membership.inside

    def external_id(self, type: str) -> str | None:
        """Return the person's newest identifier of a type, or None."""
        for external in reversed(self.profile.ids):
            if external.type == type:
                return external.value
        return None
