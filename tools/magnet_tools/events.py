"""Telling subscribed hosts that a session grew: the store's changes as the protocol's resource updates."""

from collections.abc import Callable

from mcp.server.subscriptions import ResourceUpdated, ServerEvent

from magnet.store.changes import Change


class SessionEvents:
    """The SDK's subscription bus over the store's changes; hosts subscribe to `session://{id}`."""

    def __init__(self) -> None:
        """Begin with no stream open."""
        # By a token of its own, so that one function may listen twice.
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}

    async def publish(self, event: ServerEvent) -> None:
        """Hand an event to every open stream."""
        self._deliver(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Hand the listener every event from now on; the returned function ends that, however often it is called."""
        token = object()
        self._listeners[token] = listener

        def stop() -> None:
            self._listeners.pop(token, None)

        return stop

    def note(self, change: Change) -> None:
        """Tell that a session changed, as a listener of `Changes`."""
        if self._listeners:
            self._deliver(ResourceUpdated(uri=f"session://{change.session_id}"))

    def _deliver(self, event: ServerEvent) -> None:
        for listener in tuple(self._listeners.values()):
            listener(event)
