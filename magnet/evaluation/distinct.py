"""Counting distinct 64-bit keys exactly, in constant memory: what does not fit waits in temporary files."""

import tempfile
from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Self

from magnet.errors import MagnetError

KEYS_IN_MEMORY = 200_000
"""Keys that the counters of a pool hold at once, together; each takes about 100 bytes."""

_PARTITIONS = 256
_KEY_BYTES = 8


class DistinctPool:
    """The counters of one measurement and the memory they share. A context manager: it owns their files."""

    def __init__(self, limit: int = KEYS_IN_MEMORY) -> None:
        """Hold at most `limit` keys in memory, and one `add` more."""
        self._limit = limit
        self._held = 0
        self._counters: list[DistinctCounter] = []
        self._files = ExitStack()

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary files."""
        self._files.close()

    def new_counter(self) -> "DistinctCounter":
        """Return a counter that shares this pool's memory."""
        counter = DistinctCounter(self)
        self._counters.append(counter)
        return counter

    def open_file(self) -> IO[bytes]:
        """Return a temporary file that lives as long as the pool."""
        return self._files.enter_context(tempfile.TemporaryFile())

    def note_growth(self, keys: int) -> None:
        """Take note that a counter holds so many more keys, and make room where that is too many."""
        self._held += keys
        while self._held > self._limit:
            largest = max(self._counters, key=DistinctCounter.held)
            self.make_room(largest)

    def make_room(self, counter: "DistinctCounter") -> None:
        """Move what a counter holds to its file."""
        self._held -= counter.held()
        counter.spill()


class DistinctCounter:
    """How many different keys were added."""

    def __init__(self, pool: DistinctPool) -> None:
        """Count in the memory of a pool; made by `DistinctPool.new_counter`."""
        self._pool = pool
        self._keys: set[int] = set()
        self._file: IO[bytes] | None = None
        # For each spill, where in the file each of its partitions begins, and where the last one ends.
        self._spills: list[array[int]] = []

    def held(self) -> int:
        """Return the number of keys in memory."""
        return len(self._keys)

    def add(self, keys: Iterable[int]) -> None:
        """Add keys, each a signed 64-bit integer.

        Raises:
            MagnetError: there is no room for the temporary file.
        """
        before = len(self._keys)
        self._keys.update(keys)
        self._pool.note_growth(len(self._keys) - before)

    def count(self) -> int:
        """Return how many different keys were added so far.

        Raises:
            MagnetError: the temporary file cannot be read back.
        """
        if self._file is None:
            return len(self._keys)
        self._pool.make_room(self)
        try:
            return sum(len(self._read(self._file, partition)) for partition in range(_PARTITIONS))
        except OSError as error:
            raise _no_room(error) from error

    def spill(self) -> None:
        """Move the keys in memory to the temporary file, split by their low bits.

        Raises:
            MagnetError: there is no room for it.
        """
        parts = [array("q") for _ in range(_PARTITIONS)]
        append = [part.append for part in parts]
        for key in self._keys:
            append[key & (_PARTITIONS - 1)](key)
        self._keys = set()
        try:
            self._file = self._file or self._pool.open_file()
            offset = self._file.seek(0, 2)
            begins = array("q", (offset,))
            for part in parts:
                part.tofile(self._file)
                begins.append(begins[-1] + len(part) * _KEY_BYTES)
            self._spills.append(begins)
        except OSError as error:
            raise _no_room(error) from error

    def _read(self, file: IO[bytes], partition: int) -> set[int]:
        found: set[int] = set()
        for begins in self._spills:
            file.seek(begins[partition])
            run = array("q")
            run.frombytes(file.read(begins[partition + 1] - begins[partition]))
            found.update(run)
        return found


def _no_room(error: OSError) -> MagnetError:
    return MagnetError(
        f"cannot keep n-grams in {tempfile.gettempdir()} ({error.strerror}); set TMPDIR to a folder with more room"
    )
