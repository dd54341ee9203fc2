"""Computed trait `unique_count`: how many different values the property has had."""

from msgspec.structs import replace

from profiles.computed import unique_list

KIND = replace(unique_list.KIND, name="unique_count",
               result=lambda state, _frequency: len(state))
