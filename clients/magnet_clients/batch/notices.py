"""What the servers tell of their model endpoints: down, back again, asking for quiet. Each is said once."""

import time
from collections.abc import Callable, Iterator

import anyio
from mcp import Client
from pydantic import BaseModel, ValidationError

from magnet_clients.connect import read_resource
from magnet_clients.errors import ClientError

ENDPOINTS = "about://endpoints"

_ASK_EVERY_S = 2.0
_SAME_AGAIN_S = 300.0
"""Each of several servers finds out by itself, and soon after the first; what is found again later is news."""


class Notice(BaseModel):
    """A line of a server about an endpoint, and when it came."""

    at: str
    kind: str
    endpoint: str
    text: str


class EndpointState(BaseModel):
    """Whether an endpoint is down, and since when."""

    address: str
    down_since: str | None = None


class Endpoints(BaseModel):
    """What a server tells of its endpoints; `now` is its clock."""

    now: str
    endpoints: tuple[EndpointState, ...] = ()
    notices: tuple[Notice, ...] = ()


class Notices:
    """Says what the servers of a run tell from its begin on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Say each line with this."""
        self._say = say
        self._said: dict[str, tuple[str, float]] = {}
        # By the identity of its client, which has no hash.
        self._heard_until: dict[int, str] = {}

    async def follow(self, client: Client) -> None:
        """Ask a server again and again, until cancelled; one that is gone, or knows nothing of it, no more."""
        while True:
            if not await self.ask(client):
                return
            await anyio.sleep(_ASK_EVERY_S)

    async def ask(self, client: Client) -> bool:
        """Ask a server once, and return whether it had an answer."""
        try:
            found = Endpoints.model_validate_json(await read_resource(client, ENDPOINTS))
        except (ClientError, ValidationError):
            # That a server is gone is told by whoever waits there for a session.
            return False
        self.hear(found, id(client))
        return True

    def hear(self, found: Endpoints, server: int = 0) -> None:
        """Say what is new in what a server told."""
        heard_until = self._heard_until.get(server)
        for notice in _news(found, heard_until):
            self._tell(notice)
        self._heard_until[server] = max([heard_until or found.now, *(notice.at for notice in found.notices)])

    def _tell(self, notice: Notice) -> None:
        now = time.monotonic()
        kind, said_at = self._said.get(notice.endpoint, ("up", now))
        if kind != notice.kind or now - said_at >= _SAME_AGAIN_S:
            self._said[notice.endpoint] = (notice.kind, now)
            self._say(notice.text)


def _news(found: Endpoints, heard_until: str | None) -> Iterator[Notice]:
    if heard_until is not None:
        # Of an endpoint that goes and comes within a moment, only how it is now matters.
        last = {notice.endpoint: notice for notice in found.notices if notice.at > heard_until}
        yield from last.values()
        return
    # What was before the run matters only where it still is so.
    for endpoint in found.endpoints:
        if endpoint.down_since is not None:
            text = f"{endpoint.address} is down since {endpoint.down_since}; it is used again when it answers"
            yield Notice(at=found.now, kind="down", endpoint=endpoint.address, text=text)
