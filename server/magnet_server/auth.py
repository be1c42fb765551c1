"""Who sends a request: the bearer token is looked up for every path, and asked for on all but the liveness check."""

from collections.abc import Sequence

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from magnet_server.answers import send_detail
from magnet_server.tokens import Token, find_token

OPEN_PATHS = frozenset({"/healthz"})
"""What answers without a token, and without counting against a rate limit."""


class Identify:
    """Notes whose token a request carries, where both the rate limit and the MCP server look for it."""

    def __init__(self, app: ASGIApp, tokens: Sequence[Token]) -> None:
        """Know these tokens."""
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the sender of one request."""
        if scope["type"] == "http" and (token := find_token(self._tokens, _bearer(scope))):
            # The token's own text goes no further than this module.
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=token.name, scopes=token.scopes))
        await self._app(scope, receive, send)


class RequireToken:
    """Refuses what carries no known token (401)."""

    def __init__(self, app: ASGIApp) -> None:
        """Guard this app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or token_name(scope):
            await self._app(scope, receive, send)
            return
        is_wrong = "authorization" in Headers(scope=scope)
        detail = "the token is not known here" if is_wrong else "send a token: Authorization: Bearer TOKEN"
        challenge = 'Bearer error="invalid_token"' if is_wrong else "Bearer"
        await send_detail(send, 401, detail, {"www-authenticate": challenge})


def token_name(scope: Scope) -> str | None:
    """Return the name of the token that a request carries, or None for none or a wrong one."""
    user = scope.get("user")
    return user.access_token.client_id if isinstance(user, AuthenticatedUser) else None


def _bearer(scope: Scope) -> str:
    scheme, _, text = Headers(scope=scope).get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""
