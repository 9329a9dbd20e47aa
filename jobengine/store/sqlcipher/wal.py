"""What can be told of a -wal without the key: where it breaks off.

SQLite reads a log up to the last commit before the first frame whose checksum is wrong, and
says nothing of the rest (https://www.sqlite.org/fileformat2.html#the_write_ahead_log).
"""

import struct
from pathlib import Path
from typing import NamedTuple

from jobengine.store.sqlcipher.files import beside

_HEADER = struct.Struct(">8I")  # magic, version, page size, number, two salts, two checksums
_FRAME = struct.Struct(">6I")  # page, size of the database at a commit, two salts, two checksums
_MAGIC = 0x377F0682  # its lowest bit says that the checksums are of big-endian words
_SUMMED_OF_HEADER, _SUMMED_OF_FRAME = 24, 8
# A kill or a power cut leaves at most one commit unfinished.
_UNFINISHED = 1
_PAGE_MIN, _PAGE_MAX = 512, 65536

_Sums = tuple[int, int]


class _Frame(NamedTuple):
    commits: bool
    salts: tuple[int, int]
    sums: _Sums
    summed: bytes


def damage_of_log(database: Path) -> list[str]:
    """What is wrong with the -wal beside a database, of which there need be none.

    A flaw in the last commit looks as if that had been cut off, which is no damage.
    """
    path = beside(database, "-wal")
    log = _read(path)
    frames = _frames(log)
    if not frames:
        return []
    magic, *_, first, second = _HEADER.unpack_from(log)
    order = ">" if magic & 1 else "<"
    sums = _sums(log[:_SUMMED_OF_HEADER], order, (0, 0))
    if magic & ~1 != _MAGIC or sums != (first, second):
        return [f"{path}: its header is damaged, so none of its {len(frames)} pages is read"]
    salts = _HEADER.unpack_from(log)[4:6]
    for index, frame in enumerate(frames):
        sums = _sums(frame.summed, order, sums)
        if frame.salts != salts or frame.sums != sums:
            return _cut_off(path, frames, index, salts)
    return []


def _cut_off(path: Path, frames: list[_Frame], index: int, salts: tuple[int, ...]) -> list[str]:
    """What it says that the frame of the index is not as it was written."""
    lost = sum(frame.commits and frame.salts == salts for frame in frames[index:])
    if lost <= _UNFINISHED:
        return []  # the end: behind it lies what an earlier round of the log left
    return [f"{path}: the page at place {index + 1} is damaged, so {lost} commits are not read"]


def _read(path: Path) -> bytes:
    """All of it, in one state: a server that begins it anew writes the header first."""
    while True:
        try:
            log = path.read_bytes()
            with path.open("rb") as again:
                if again.read(_HEADER.size) == log[: _HEADER.size]:
                    return log
        except FileNotFoundError:
            return b""


def _frames(log: bytes) -> list[_Frame]:
    if len(log) < _HEADER.size:
        return []
    page = _page_bytes(log)
    frames = []
    for at in range(_HEADER.size, len(log) - _FRAME.size - page + 1, _FRAME.size + page):
        _number, size, *rest = _FRAME.unpack_from(log, at)
        data = at + _FRAME.size
        summed = log[at : at + _SUMMED_OF_FRAME] + log[data : data + page]
        frames.append(_Frame(size > 0, (rest[0], rest[1]), (rest[2], rest[3]), summed))
    return frames


def _page_bytes(log: bytes) -> int:
    """The size of a page; SQLCipher's default where the header cannot be right."""
    size = int(_HEADER.unpack_from(log)[2])
    fits = _PAGE_MIN <= size <= _PAGE_MAX and size & (size - 1) == 0
    return size if fits else 4096


def _sums(data: bytes, order: str, sums: _Sums) -> _Sums:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return first, second
