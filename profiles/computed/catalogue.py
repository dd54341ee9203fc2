"""All kinds of computed traits: a line each."""

from profiles.computed import (
    avg,
    count,
    first,
    last,
    max,
    min,
    most_frequent,
    sum,
    unique_count,
    unique_list,
)
from profiles.computed.kind import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        count.KIND,
        sum.KIND,
        avg.KIND,
        min.KIND,
        max.KIND,
        most_frequent.KIND,
        first.KIND,
        last.KIND,
        unique_list.KIND,
        unique_count.KIND,
    )
}
