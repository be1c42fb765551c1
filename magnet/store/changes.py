"""Who is told when a session changes: in this process, at once, after the change is committed."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Change:
    """A session changed; `messages` is how many it has now, None where that is not what changed."""

    session_id: str
    messages: int | None = None


Listener: TypeAlias = Callable[[Change], None]
"""Is told of a change; must neither block nor raise."""


class Changes:
    """The listeners of one store. What another process writes is not told here."""

    def __init__(self) -> None:
        """Begin with no listener."""
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell the listener of every change from now on; the returned function ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, session_id: str, messages: int | None = None) -> None:
        """Tell every listener that a session changed."""
        change = Change(session_id, messages)
        for listener in tuple(self._listeners):
            listener(change)

    @asynccontextmanager
    async def watch(self, session_id: str) -> AsyncGenerator[asyncio.Queue[Change], None]:
        """Give a queue of one session's changes from now on."""
        queue: asyncio.Queue[Change] = asyncio.Queue()

        def put(change: Change) -> None:
            if change.session_id == session_id:
                queue.put_nowait(change)

        stop = self.subscribe(put)
        try:
            yield queue
        finally:
            stop()
