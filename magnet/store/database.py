"""The database: opened at first use, written in groups, its errors told in our words."""

import asyncio
import errno
import re
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from sqlalchemy import Insert, Table, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from magnet.errors import StoreError
from magnet.store.patience import PATIENCE_S, Patience, sqlstate_of
from magnet.store.versions import prepare_schema
from magnet.watching import Watch

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
"""Statements to run inside one transaction."""

_DRIVERS: Mapping[str, str] = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
_CONNECT_S = 10
POSTGRES_OPTIONS: Mapping[str, object] = {
    # Writes wait in groups and reads are short, so few connections serve hundreds of sessions: who finds all of them
    # busy waits for one. Ten servers stay within PostgreSQL's usual hundred.
    "pool_size": 8,
    "max_overflow": 0,
    "pool_timeout": 120,
    # A database that was restarted meanwhile is connected to again.
    "pool_pre_ping": True,
    "connect_args": {"timeout": _CONNECT_S, "server_settings": {"application_name": "magnet"}},
}
"""How its connections are made and kept."""


@dataclass(frozen=True, slots=True)
class _Write:
    """One waiting write: rows for one insert statement, and who waits for their commit."""

    statement: Insert
    row: Mapping[str, object]
    committed: asyncio.Future[None]

    def settle(self, error: StoreError | None) -> None:
        """Tell who waits how it went; one that was cancelled meanwhile waits no more."""
        if self.committed.done():
            return
        if error is None:
            self.committed.set_result(None)
        else:
            self.committed.set_exception(error)


class Database:
    """One database, shared by everything in the process.

    Nothing is opened or created before the first read or write, so starting a server costs no file.
    """

    def __init__(self, url: str, watch: Watch | None = None) -> None:
        """Remember where it is, and who is told when it is away; nothing is opened yet."""
        self.url = url
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()
        # SQLite takes one writer at a time and has the others poll, asleep for up to 0.1 s; a queue is faster.
        self._writing = asyncio.Lock() if url.startswith("sqlite") else nullcontext()
        self._waiting: list[_Write] = []
        self._has_waiting = asyncio.Event()
        self._is_closing = False
        self._patience = Patience(_hide_password(url), watch or Watch())

    @property
    def is_absent(self) -> bool:
        """Whether this is a SQLite file that nothing has made yet; looking into one would make it."""
        parsed = make_url(self.url)
        is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
        return self._engine is None and is_file and not Path(str(parsed.database)).exists()

    async def read(self, work: Work[T]) -> T:
        """Return what the statements give.

        Raises:
            StoreError: the database cannot be opened or read.
        """

        async def attempt() -> T:
            with self._told():
                engine = await self._open()
                async with engine.connect() as connection:
                    return await work(connection)

        return await self._patience.persist(attempt)

    async def write(self, work: Work[T]) -> T:
        """Run the statements in one transaction of their own and commit it.

        Raises:
            StoreError: the database cannot be opened or written; nothing of this transaction is kept.
        """
        is_done = False

        async def attempt() -> T:
            nonlocal is_done
            is_done = False
            with self._told():
                engine = await self._open()
                async with self._writing, engine.begin() as connection:
                    result = await work(connection)
                    # What fails from here on may have been committed nevertheless.
                    is_done = True
                return result

        return await self._patience.persist(attempt, lambda: is_done)

    async def append(self, statement: Insert, row: Mapping[str, object]) -> None:
        """Insert one row and return when it is committed; rows that wait at the same time share a transaction.

        Raises:
            StoreError: the row could not be committed.
        """
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(statement, row, committed))
        self._has_waiting.set()
        await committed

    async def commit_groups(self) -> None:
        """Commit waiting rows, group after group, until the database closes; runs as a task beside the work."""
        while not self._is_closing:
            await self._has_waiting.wait()
            self._has_waiting.clear()
            await self._commit_waiting()

    async def _commit_waiting(self) -> None:
        group, self._waiting = self._waiting, []
        if not group:
            # Nothing was ever written, so nothing is opened or created for it at the end either.
            return
        error = await self._commit(group)
        if error is None or len(group) == 1 or not _is_about_a_row(error.__cause__):
            for write in group:
                write.settle(error)
            return
        for write in group:
            write.settle(await self._commit([write]))

    async def _commit(self, group: Sequence[_Write]) -> StoreError | None:
        by_statement: dict[Insert, list[Mapping[str, object]]] = {}
        for write in group:
            by_statement.setdefault(write.statement, []).append(write.row)
        try:
            await self.write(lambda connection: _insert_all(connection, by_statement))
        except StoreError as error:
            return error
        return None

    def stop_committing(self) -> None:
        """Let `commit_groups` commit what still waits, and return."""
        self._is_closing = True
        self._has_waiting.set()

    async def dispose(self) -> None:
        """Close the connections."""
        if self._engine is not None:
            await self._engine.dispose()

    async def _open(self) -> AsyncEngine:
        if self._engine is None:
            async with self._opening:
                if self._engine is None:
                    engine = _create_engine(self.url)
                    try:
                        await prepare_schema(engine)
                    except BaseException:
                        await engine.dispose()
                        raise
                    self._engine = engine
                    # One that was never there is told at once.
                    self._patience.seconds = 0.0 if self.url.startswith("sqlite") else PATIENCE_S
        return self._engine

    def _told(self) -> "_ToldAsStoreError":
        return _ToldAsStoreError(self.url)


def dialect_insert(url: str, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Return an insertion that can say what to do with a row that is there, which each database has its own way for."""
    if url.startswith("postgres"):
        # Costs every start of a server 50 ms, and most keep their store in SQLite.
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)


@asynccontextmanager
async def open_database(url: str, watch: Watch | None = None) -> AsyncGenerator[Database, None]:
    """Give the database with its group writer running, and close it at the end; `watch` is told when it is away.

    Raises:
        StoreError: the URL is not one of a database we know.
    """
    _parse_url(url)
    database = Database(url, watch)
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(database.commit_groups())
            try:
                yield database
            except Exception as error:
                # Raised below: a task group would make it one of a group, which no caller knows.
                failure = error
            finally:
                database.stop_committing()
        if failure is not None:
            raise failure
    finally:
        await database.dispose()


async def _insert_all(
    connection: AsyncConnection, by_statement: Mapping[Insert, Sequence[Mapping[str, object]]]
) -> None:
    # In one order everywhere, lest two servers wait for each other's rows.
    for statement in sorted(by_statement, key=lambda each: _table_of(each).name):
        keys = _table_of(statement).primary_key.columns.keys()
        rows = sorted(by_statement[statement], key=lambda row: tuple(str(row[key]) for key in keys))
        await connection.execute(statement, [dict(row) for row in rows])


def _table_of(statement: Insert) -> Table:
    return cast(Table, statement.table)


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # The text is not repeated: what is no URL may still hold a password.
        raise StoreError("the store is not a database URL; write sqlite:///path/to/file.db") from error
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise StoreError(f"the store {_hide_password(url)} is of an unknown kind; use sqlite:///… or postgresql://…")
    return parsed.set(drivername=_DRIVERS[backend])


def _create_engine(url: str) -> AsyncEngine:
    parsed = _parse_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database and parsed.database != ":memory:" and "uri" not in parsed.query:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        # aiosqlite leaves a thread behind when it cannot open a file, and that thread's traceback on stderr.
        sqlite3.connect(parsed.database).close()
    try:
        engine = create_async_engine(parsed, **({} if is_sqlite else POSTGRES_OPTIONS))
    except ModuleNotFoundError as error:
        raise StoreError("a PostgreSQL store needs asyncpg: pip install 'magnet-server[postgres]'") from error
    if is_sqlite:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    # WAL lets readers go on beside the one writer, and a killed process leaves a whole database behind.
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class _ToldAsStoreError:
    """Turns what the driver raises into a `StoreError` that names the store and the cure."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        # UnicodeError: half of a surrogate pair, which no database takes.
        known = isinstance(error, NoSuchModuleError | SQLAlchemyError | sqlite3.Error | OSError | UnicodeError)
        # What asyncpg raises while it connects comes as it is; importing it to name the type would cost everyone.
        if isinstance(error, Exception) and (known or type(error).__module__.startswith("asyncpg.")):
            raise StoreError(
                f"cannot use the store {_hide_password(self._url)}: {_explain(error, self._url)}"
            ) from error


def _hide_password(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def _is_about_a_row(error: BaseException | None) -> bool:
    """Tell whether one row of several made the write fail, rather than the database."""
    if isinstance(error, UnicodeError):
        return True
    return isinstance(error, DBAPIError) and not error.connection_invalidated and "full" not in str(error.orig)


def _explain(error: Exception, url: str) -> str:
    # PostgreSQL's driver puts its class before the message; a failed connection may have no text at all.
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [_name(error)]
    text = re.sub(r"^<class '[^']*'>: ", "", lines[0])
    is_full = any(sign in text for sign in ("disk is full", "No space left")) or (
        isinstance(error, OSError) and error.errno == errno.ENOSPC
    )
    if is_full:
        return "the disk is full; free some space and run the same command again: what was finished is kept"
    # Only what went wrong with a file, rather than with a connection, has a file name.
    if "readonly" in text or "unable to open" in text or getattr(error, "filename", None):
        return f"{text}; choose a place that can be written, with --store or MAGNET_STORE"
    if url.startswith("postgres") and _is_about_connecting(error):
        return f"{text}; check that PostgreSQL runs there and takes this user, or name another with MAGNET_STORE"
    return text


def _name(error: Exception) -> str:
    return f"no answer within {_CONNECT_S} s" if isinstance(error, TimeoutError) else type(error).__name__


def _is_about_connecting(error: Exception) -> bool:
    if isinstance(error, OSError) or not isinstance(error, SQLAlchemyError | UnicodeError):
        return True
    # Classes of SQLSTATE: connection, authorization, no such database, too many connections, shutting down.
    return sqlstate_of(error).startswith(("08", "28", "3D", "53300", "57P"))
