"""Give up what is damaged in a log: ``python -m transport.mend PATH``.

A record that cannot be read is replaced by an empty one, so that all others keep their offsets;
the damaged file is kept beside the log in ``damaged/``. What was given up is printed.
"""

import sys
from pathlib import Path

from transport import segment
from transport.files import OsFiles, write_file
from transport.log import LogRefused, read_identity, take_lock


def mend(path: str) -> list[str]:
    """Mend the log in ``path`` and return what was given up, a line a gap. Raises LogRefused."""
    files = OsFiles()
    path = str(Path(path).absolute())
    held = take_lock(files, path)
    try:
        identity = read_identity(files, path)
        told: list[str] = []
        for folder in sorted(Path(path, "topics").glob("*/*")):
            if folder.name.isdigit():
                told += _partition(files, path, identity, folder)
        return told
    finally:
        files.close(held)


def _partition(files: OsFiles, path: str, identity: str, folder: Path) -> list[str]:
    topic, number = folder.parent.name, int(folder.name)
    start = segment.seed(identity, topic, number)
    names = sorted(folder.glob("*.seg"))
    told: list[str] = []
    for place, name in enumerate(names):
        base = int(name.stem)
        until = int(names[place + 1].stem) if place + 1 < len(names) else -1
        content = name.read_bytes()
        found = dict(_salvage(content, start, base))
        end = until if until >= 0 else max(found, default=base - 1) + 1
        missing = [offset for offset in range(base, end) if offset not in found]
        if not missing and _whole(content, start, base, end):
            continue
        kept = Path(path, "damaged", f"{topic}-{number}-{name.name}")
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(content)
        _rewrite(files, name, identity, number, start, base, end, found)
        told.append(
            f"{name}: {len(missing)} of {end - base} records given up"
            + (f": {missing[0]} to {missing[-1]}" if missing else "")
            + f"; the damaged file is {kept}"
        )
    return told


def _salvage(content: bytes, start: int, base: int) -> list[tuple[int, segment.Record]]:
    """Return every record that is whole, wherever in the file it stands."""
    found = []
    at = content.find(segment.RECORD_MAGIC)
    while at >= 0:
        unit = segment.record_at(content, at, start)
        if unit is not None and unit.offset >= base:
            found.append((
                unit.offset,
                segment.Record(unit.offset, unit.timestamp_ms, unit.key, unit.value or b""),
            ))
            at = content.find(segment.RECORD_MAGIC, unit.end)
        else:
            at = content.find(segment.RECORD_MAGIC, at + 1)
    return found


def _whole(content: bytes, start: int, base: int, end: int) -> bool:
    """Return whether the file can be read as it is."""
    try:
        if segment.read_header(content, start)[1] != base:
            return False
        offset = base
        for unit in segment.units(
            lambda size, at: content[at : at + size], len(content), start, segment.HEADER_SIZE, base
        ):
            if unit.value is not None:
                offset = unit.offset + 1
            if offset == end:
                break
    except segment.Damaged:
        return False
    return offset == end


def _rewrite(
    files: OsFiles, name: Path, identity: str, number: int, start: int, base: int, end: int,
    found: dict[int, segment.Record],
) -> None:
    pieces = [segment.header(identity, number, base, start)]
    for offset in range(base, end):
        record = found.get(offset) or segment.Record(offset, 0, None, b"")
        pieces += segment.encode(record, start)
    data = b"".join(pieces)
    write_file(files, str(name.parent), name.name, data + segment.seal(end, len(data), start))


def main() -> int:
    """Mend, and say what was given up."""
    if len(sys.argv) != 2:
        print("usage: python -m transport.mend PATH-OF-THE-LOG", file=sys.stderr)
        return 2
    try:
        told = mend(sys.argv[1])
    except (LogRefused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(told) or "nothing is damaged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
