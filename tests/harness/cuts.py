"""Power cuts: what a disk may hold after one, rebuilt from a trace of the calls before it.

What was synced is there. Of the rest each 512-byte sector holds what it held at the last sync,
or what any write since then made of it; of names that were made, changed and removed since the
folder was synced, some are on disk and others not.
"""

import random
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.harness.disks import preloaded

_HEAD = struct.Struct("<QqIIc")
_SECTOR = 512
# What another process reads anew, and what holds no data.
_VOLATILE = ("-shm", ".sock")


class Record(NamedTuple):
    """A call that changed or synced something: a write, truncate, sync, create, rename, unlink."""

    call: str
    inode: int
    at: int
    path: str
    data: bytes


class TracedDisk:
    """The disk of a server or a command, with everything on it written down."""

    def __init__(self, folder: Path, trace: Path) -> None:
        """Skips the test where there is no C compiler, or no LD_PRELOAD."""
        self._folder, self._trace = folder, trace
        names = {"TRACED_FOLDER": str(folder), "TRACED_DISK": str(trace)}
        self.env: Any = {"LD_PRELOAD": str(preloaded("traced_disk")), **names}

    def position(self) -> int:
        """How much of the trace there is by now, in bytes."""
        return self._trace.stat().st_size if self._trace.exists() else 0

    def records(self) -> list[tuple[int, Record]]:
        """All of it, each record with the position behind it."""
        return list(self._read())

    def _read(self) -> Iterator[tuple[int, Record]]:
        trace = self._trace.read_bytes()
        at = 0
        while at < len(trace):
            inode, offset, path_size, size, call = _HEAD.unpack_from(trace, at)
            data_at = at + _HEAD.size + path_size
            path = trace[at + _HEAD.size : data_at].decode()
            at = data_at + size
            yield at, Record(call.decode(), inode, offset, path, trace[data_at:at])


@dataclass
class _File:
    synced: bytes = b""
    since: list[Record] = field(default_factory=list)

    def written(self) -> bytes:
        image = bytearray(self.synced)
        for record in self.since:
            _apply(image, record)
        return bytes(image)


_NONE = _File()


class Disk:
    """What was written to a folder, and what of it is on disk."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}  # a number is given again, once its file is gone
        self._names: dict[str, _File] = {}
        self._since: list[tuple[Record, _File]] = []

    def do(self, record: Record) -> None:
        """The next call."""
        if record.path.endswith(_VOLATILE):
            return
        if record.call == "c":
            self._files[record.inode] = _File()
        file = self._files.get(record.inode, _NONE)
        if record.call in "cur":
            self._since.append((record, file))
        elif record.call in "wt":
            file.since.append(record)
        elif file is not _NONE:
            file.synced, file.since = file.written(), []
        else:  # the folder
            for each in self._since:
                _name(self._names, *each)
            self._since = []

    def cut(self, dice: random.Random, folder: Path) -> None:
        """Writes what the disk may hold after a power cut at this moment into another folder."""
        names, share = dict(self._names), dice.choice((0.0, 0.5, 1.0))
        for each in self._since:
            if dice.random() < share:
                _name(names, *each)
        for name, file in names.items():
            (folder / Path(name).name).write_bytes(_survives(file, dice))


def _name(names: dict[str, _File], record: Record, file: _File) -> None:
    if record.call == "c":
        names[record.path] = file
    elif record.call == "u":
        names.pop(record.path, None)
    elif record.path in names:
        names[record.data.decode()] = names.pop(record.path)


def _survives(file: _File, dice: random.Random) -> bytes:
    """The file, with some of its sectors as they were before some of the writes."""
    truncates = sum(record.call == "t" for record in file.since)
    kept = dice.randint(0, truncates)
    share = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    versions = Counter(sector for record in file.since for sector in _sectors(record))
    last = {
        sector: count if dice.random() < share else dice.randrange(count)
        for sector, count in versions.items()
    }
    image, seen = bytearray(file.synced), Counter[int]()
    for record in file.since:
        if record.call == "t":
            kept -= 1
            if kept >= 0:
                _apply(image, record)
            continue
        for sector in _sectors(record):
            seen[sector] += 1
            if seen[sector] <= last[sector]:
                _apply(image, _part(record, sector))
    return bytes(image)


def _sectors(record: Record) -> range:
    if record.call == "t" or not record.data:
        return range(0)
    return range(record.at // _SECTOR, (record.at + len(record.data) - 1) // _SECTOR + 1)


def _part(record: Record, sector: int) -> Record:
    """What a write changes in one sector."""
    begin = max(record.at, sector * _SECTOR)
    end = min(record.at + len(record.data), (sector + 1) * _SECTOR)
    return record._replace(at=begin, data=record.data[begin - record.at : end - record.at])


def _apply(image: bytearray, record: Record) -> None:
    if record.call == "t":
        del image[record.at :]
    image.extend(bytes(max(0, record.at - len(image))))
    image[record.at : record.at + len(record.data)] = record.data
