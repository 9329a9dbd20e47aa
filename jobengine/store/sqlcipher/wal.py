"""What can be told of a -wal without the key: where it breaks off, and what it has of a page.

SQLite reads a log up to the last commit before the first frame whose checksum is wrong, and
says nothing of the rest (https://www.sqlite.org/fileformat2.html#the_write_ahead_log). A log
may be gigabytes long: it is read a frame at a time.
"""

import os
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jobengine.store.findings import Tell
from jobengine.store.sqlcipher.checksums import sums_of
from jobengine.store.sqlcipher.files import beside

_HEADER = struct.Struct(">8I")  # magic, version, page size, number, two salts, two checksums
_FRAME = struct.Struct(">6I")  # page, size of the database at a commit, two salts, two checksums
_MAGIC = 0x377F0682  # its lowest bit says that the checksums are of big-endian words
# The parts that are summed; of a frame, the page follows.
_SUMMED_OF_HEADER, _SUMMED_OF_FRAME = (slice(0, 16), slice(16, 24)), slice(0, 8)
# A kill or a power cut leaves at most one commit unfinished.
_UNFINISHED = 1
_PAGE_MIN, _PAGE_MAX = 512, 65536
_BUFFER_BYTES = 1024 * 1024
_WHAT, _STEP_FRAMES = "reading the log", 256


class Frame(NamedTuple):
    """A page as a transaction wrote it into the log."""

    number: int
    commits: bool
    page: bytes


class Log:
    """An open -wal, as long as it was when it was opened."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.header = file.read(_HEADER.size)
        self.is_sound = False
        self.length = 0
        if len(self.header) == _HEADER.size:
            self._read_header()

    def _read_header(self) -> None:
        magic, _version, page, _number, *rest = _HEADER.unpack(self.header)
        self._order = ">" if magic & 1 else "<"
        self._salts, expected = tuple(rest[:2]), tuple(rest[2:])
        self._sums = (0, 0)
        for part in _SUMMED_OF_HEADER:
            self._sums = sums_of(self.header[part], self._order, self._sums)
        self.is_sound = magic & ~1 == _MAGIC and self._sums == expected
        fits = _PAGE_MIN <= page <= _PAGE_MAX and page & (page - 1) == 0
        self._page_bytes = page if fits else 4096  # SQLCipher's default, for a damaged header
        self._frame_bytes = _FRAME.size + self._page_bytes
        size = os.fstat(self._file.fileno()).st_size
        self.length = (size - _HEADER.size) // self._frame_bytes

    def frames(self) -> Iterator[Frame]:
        """Those before the first whose checksum is wrong; not all of them need be committed."""
        if not self.is_sound:
            return
        sums = self._sums
        self._file.seek(_HEADER.size)
        for _ in range(self.length):
            head, page = self._file.read(_FRAME.size), self._file.read(self._page_bytes)
            if len(page) < self._page_bytes:
                return
            number, size, *rest = _FRAME.unpack(head)
            sums = sums_of(head[_SUMMED_OF_FRAME], self._order, sums)
            sums = sums_of(page, self._order, sums)
            if tuple(rest) != (*self._salts, *sums):
                return
            yield Frame(number, size > 0, page)

    def commits_from(self, index: int) -> int:
        """How many frames from that one on end a commit, by what they say of themselves."""
        return sum(self._commits(at) for at in range(index, self.length))

    def _commits(self, index: int) -> bool:
        at = _HEADER.size + index * self._frame_bytes
        head = os.pread(self._file.fileno(), _FRAME.size, at)
        if len(head) < _FRAME.size:
            return False
        _number, size, *rest = _FRAME.unpack(head)
        return size > 0 and tuple(rest[:2]) == self._salts


def damage_of_log(database: Path, tell: Tell = lambda *_: None) -> list[str]:
    """What is wrong with the -wal of a database, which need not have one.

    A flaw in the last commit looks as if that had been cut off, which is no damage.
    """
    path = beside(database, "-wal")
    found, before = _break(path, tell), None
    while found is not None:
        if before is not None and found.place == before.place:
            return [found.sentence]
        # A server may have been writing there: then it is not there again.
        found, before = _break(path, tell), found
    return []


class _Break(NamedTuple):
    """Where a log breaks off before its end."""

    place: tuple[bytes, int]  # the log's header, and the frame
    sentence: str


def _break(path: Path, tell: Tell) -> _Break | None:
    try:
        file = path.open("rb", _BUFFER_BYTES)
    except FileNotFoundError:
        return None
    with file:
        log, sound = Log(file), 0
        for sound, _ in enumerate(log.frames(), start=1):
            if sound % _STEP_FRAMES == 0:
                tell(_WHAT, sound, log.length)
        lost = log.commits_from(sound)
    what = f"the page at place {sound + 1} is damaged, so {lost} commits are not read"
    if log.length and not log.is_sound:
        what = f"its header is damaged, so none of its {log.length} pages is read"
    elif lost <= _UNFINISHED:
        return None  # the end: behind it lies what an earlier round of the log left
    return _Break((log.header, sound), f"{path}: {what}")


def newest_page(database: Path, number: int) -> bytes | None:
    """What a database's -wal has of a page, of the last commit that changed it; None for nothing.

    Raises OSError.
    """
    newest, written = None, None
    for frame in _frames(database):
        if frame.number == number:
            written = frame.page
        if frame.commits:
            newest = written
    return newest


def pages_in_log(database: Path, wanted: Collection[int]) -> set[int]:
    """The pages, of those wanted, that are read from a database's -wal and not from the file."""
    read: set[int] = set()
    written: set[int] = set()
    for frame in _frames(database):
        if frame.number in wanted:
            written.add(frame.number)
        if frame.commits:
            read |= written
            written.clear()
    return read


def _frames(database: Path) -> Iterator[Frame]:
    with suppress(FileNotFoundError), beside(database, "-wal").open("rb", _BUFFER_BYTES) as file:
        yield from Log(file).frames()
