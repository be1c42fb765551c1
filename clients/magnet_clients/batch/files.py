"""OUT: the folder of a run. What belongs in it, whose it is, and what of it is done."""

import errno
import io
import json
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from pydantic import BaseModel, Field, ValidationError

from magnet_clients.batch.lock import Lock
from magnet_clients.errors import ClientError, UsageError

RUN, SESSIONS, FAILURES = "run.json", "sessions.jsonl", "failures.jsonl"
PREVIOUS = "sessions.previous.jsonl"
"""Where `--redo` leaves the sessions that it writes again."""

_ID_FIRST = re.compile(rb'\{"id":"([^"\\]+)"')


class IntakesRecord(BaseModel):
    """The intakes of a run: all of the file, whatever the limit."""

    path: str
    digest: str
    count: int


class CountsRecord(BaseModel):
    """How many sessions the latest run was to make, and how far it came."""

    total: int = 0
    finished: int = 0
    failed: int = 0


class RunRecord(BaseModel):
    """run.json: what a run is made with, and how far it is."""

    version: str
    method: str
    turns: int
    min_turns: int | None
    seed: int | None
    shard: str = Field(default="1/1", description="Which part of the intakes is this run's: i/n")
    intakes: IntakesRecord
    prompt_pack: str
    prompt_fingerprint: str
    models: dict[str, dict[str, object]]
    engine: str
    started_at: str
    finished_at: str | None = None
    sessions: CountsRecord = CountsRecord()
    is_redoing: bool = Field(default=False, description="Whether a --redo has begun that has not come to its end")
    notice: str


class Folder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        """Remember where it is; nothing is created yet."""
        self.path = path
        self._sessions: io.BufferedRandom | None = None
        self._lock = Lock(path)

    @property
    def sessions_path(self) -> Path:
        """Where the finished sessions are."""
        return self.path / SESSIONS

    @property
    def failures_path(self) -> Path:
        """Where the failures of the latest run are."""
        return self.path / FAILURES

    def check_usable(self) -> None:
        """Check that the folder can be written, before anything is started for it.

        Raises:
            UsageError: it cannot, or it holds sessions of which nothing says how they were made.
        """
        there = next(place for place in (self.path, *self.path.absolute().parents) if place.exists())
        if not there.is_dir():
            raise UsageError(f"{there} is a file, not a folder: choose another -o")
        try:
            # Only an attempt tells the reason: permissions, a file system that is read-only, a quota.
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise UsageError(f"cannot write in {there}: {error.strerror}; choose another -o") from error
        if self.sessions_path.exists() and not (self.path / RUN).exists():
            raise UsageError(f"{self.path} has a {SESSIONS} but no {RUN}: choose another -o")

    def take(self) -> None:
        """Have the folder for this run alone; it is made if need be.

        Raises:
            UsageError: another magnet-batch is writing it.
        """
        with _told(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.take()

    def renew(self) -> None:
        """Say that this run is still at work in the folder."""
        self._lock.renew()

    def is_empty(self) -> bool:
        """Return whether nothing is finished in the folder."""
        with _told(self.sessions_path):
            return not self.sessions_path.exists() or not self.sessions_path.stat().st_size

    def find_run(self) -> RunRecord | None:
        """Return the run that the folder belongs to, or None.

        Raises:
            UsageError: its run.json is none of ours.
        """
        path = self.path / RUN
        try:
            return RunRecord.model_validate_json(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}; choose another -o") from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not the record of a run: choose another -o") from error

    def save_run(self, run: RunRecord) -> None:
        """Write run.json, whole or not at all."""
        self.save(RUN, run)

    def save(self, name: str, record: BaseModel) -> None:
        """Write a record to a JSON file of this name, whole or not at all."""
        path, new = self.path / name, self.path / f"{name}.new"
        with _told(path):
            new.write_text(record.model_dump_json(indent=2) + "\n", "utf-8")
            new.replace(path)

    def put_aside(self, *, keep: bool) -> None:
        """Begin without sessions; those that are there are kept under another name, or dropped."""
        with _told(self.sessions_path):
            if not self.sessions_path.exists():
                return
            if keep:
                self.sessions_path.replace(self.path / PREVIOUS)
            else:
                self.sessions_path.unlink()

    def open_sessions(self) -> set[str]:
        """Open sessions.jsonl for adding and return the ids in it; a last line that was cut off is dropped.

        Raises:
            UsageError: a line is none of ours.
        """
        with _told(self.sessions_path):
            file = self.sessions_path.open("a+b")
            self._sessions = file
            file.seek(0)
            ids: set[str] = set()
            whole = 0
            for number, line in enumerate(file, 1):
                session_id = _id_of(line)
                if session_id is None and file.peek(1):
                    raise UsageError(f"line {number} of {self.sessions_path} is not a session: remove that line")
                if session_id is None:
                    break
                ids.add(session_id)
                whole += len(line)
            file.truncate(whole)
            self.failures_path.unlink(missing_ok=True)
        return ids

    def add_session(self, record: str) -> None:
        """Add a session's record, JSON, as one line."""
        assert self._sessions is not None
        with _told(self.sessions_path):
            # Outside of strings JSON's line breaks are mere space, and inside there are none.
            self._sessions.write(record.replace("\n", " ").encode() + b"\n")
            self._sessions.flush()

    def add_failure(self, failure: dict[str, str]) -> None:
        """Add a failure as one line."""
        with _told(self.failures_path), self.failures_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(failure, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Let another run have the folder."""
        try:
            if self._sessions is not None:
                # A line that did not fit on a full disk stays in the buffer, and closing would try it again.
                with suppress(OSError):
                    self._sessions.close()
        finally:
            self._lock.release()


@contextmanager
def _told(path: Path) -> Generator[None]:
    """Turn what the file system refuses into a line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ClientError(
                f"the disk is full ({path}): free some space and run the same command again; what was finished is kept"
            ) from error
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another -o") from error


def _id_of(line: bytes) -> str | None:
    """Return the id of a session's line, or None where the line is cut off or is something else."""
    if not line.endswith(b"}\n"):
        return None
    # A line as the server writes it begins with the id, which spares reading a long run's gigabytes as JSON.
    if match := _ID_FIRST.match(line):
        return match.group(1).decode()
    try:
        record: object = json.loads(line)
    except ValueError:
        return None
    found = cast(dict[str, object], record).get("id") if isinstance(record, dict) else None
    return found if isinstance(found, str) else None
