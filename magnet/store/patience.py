"""Trying again what a database refused for the moment: a deadlock, or a server that is being restarted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import random
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from magnet.errors import StoreError
from magnet.watching import Watch

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a database that was there may be away: for a restart, or until its standby takes over."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
_CONFLICTS_IN_A_ROW = 8
_CONFLICTS = ("40001", "40P01")
"""SQLSTATE of a serialization failure and of a deadlock: PostgreSQL has rolled back, and asks to try again."""

_AWAY = ("08", "57P")
"""Classes of SQLSTATE: no connection, and a server that shuts down or starts."""


@dataclass(slots=True)
class Patience:
    """How long one database is waited for; zero seconds wait for none that is away, and only retry a conflict."""

    store: str
    watch: Watch
    seconds: float = 0.0
    _is_waiting: bool = False

    async def persist(self, attempt: Callable[[], Awaitable[T]], is_done: Callable[[], bool] = lambda: False) -> T:
        """Return what the attempt gives, tried again while the database refuses it for the moment.

        `is_done` tells whether what was attempted may have come about although it failed.

        Raises:
            StoreError: it refuses it for good, or still after this long; or it may have been done.
        """
        clock = asyncio.get_running_loop().time
        conflicts, wait_s, until = 0, _FIRST_WAIT_S, clock() + self.seconds
        while True:
            try:
                result = await attempt()
            except StoreError as error:
                is_conflict = sqlstate_of(error.__cause__) in _CONFLICTS
                conflicts += is_conflict
                may_wait = is_away(error.__cause__) and clock() < until and not is_done()
                if conflicts >= _CONFLICTS_IN_A_ROW or not (is_conflict or may_wait):
                    raise
                if may_wait:
                    self._tell(error)
            else:
                if self._is_waiting:
                    self._is_waiting = False
                    self.watch.tell("up", self.store, f"the store {self.store} answers again")
                return result
            # Half of it by chance, so that two which met do not meet again.
            await asyncio.sleep(wait_s * (0.5 + random() / 2))  # noqa: S311 nothing is secret about it
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    def _tell(self, error: StoreError) -> None:
        # Hundreds of sessions wait for it at once.
        if not self._is_waiting:
            self._is_waiting = True
            self.watch.tell("down", self.store, f"{error}; sessions wait for it for up to {self.seconds:.0f} s")


def is_away(error: BaseException | None) -> bool:
    """Tell whether the server, rather than what was asked of it, is at fault."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return sqlstate_of(error).startswith(_AWAY) or (isinstance(error, OSError) and error.filename is None)


def sqlstate_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of an error of SQLAlchemy's or of the driver's own; an empty one where it has none."""
    inner = error.orig if isinstance(error, DBAPIError) else None if isinstance(error, SQLAlchemyError) else error
    return str(getattr(inner, "sqlstate", None) or "")
