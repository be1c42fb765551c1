"""A refusal as every part of the app sends it: a status and one line of `detail` as JSON."""

import json
from collections.abc import Mapping

from starlette.types import Send


async def send_detail(send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    """Send a whole response that says in one line what is wrong and what to do."""
    body = json.dumps({"detail": detail}).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
