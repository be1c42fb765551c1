"""Serving over HTTP: one FastAPI app with `/mcp` (Streamable HTTP, both protocol eras) and `/healthz`."""

import asyncio
import hmac
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from magnet_tools.registry import Server
from magnet_tools.server import build_server
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl

from magnet import __version__
from magnet.config import Settings
from magnet.errors import SettingsError
from magnet.llm.models import BackendFactory
from magnet.runtime import Runtime, open_runtime
from magnet.store.store import open_store

_BACKLOG = 1024
_GRACE_S = 2


class StaticTokenVerifier(TokenVerifier):
    """Accepts one bearer token, compared in constant time."""

    def __init__(self, token: str) -> None:
        """Accept this token and no other."""
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what the token grants, or None for a wrong one."""
        if not hmac.compare_digest(token.encode(), self._token):
            return None
        return AccessToken(token=token, client_id="token", scopes=[])


def build_app(
    settings: Settings,
    *,
    hosts: Sequence[str],
    token: str | None = None,
    backend_factory: BackendFactory | None = None,
    make_server: Callable[..., Server] = build_server,
) -> FastAPI:
    """Return the app; `hosts` are the `Host` headers it answers to, `token` the bearer token that /mcp asks for.

    `make_server` takes what `build_server` takes, and may add to what it returns.

    The app opens the runtime and carries on with the sessions that a server before it left unfinished.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with open_runtime(settings, backend_factory) as runtime:
            app.state.runtime = runtime
            async with server.session_manager.run():
                await runtime.jobs.resume_unfinished()
                yield

    @asynccontextmanager
    async def shared() -> AsyncGenerator[Runtime, None]:
        yield app.state.runtime

    server = make_server(
        settings,
        opener=shared,
        auth=_auth_settings(hosts[0]) if token else None,
        token_verifier=StaticTokenVerifier(token) if token else None,
    )
    app = FastAPI(title="MAGneT server", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction] registered by the decorator
        """Say that the server is up."""
        return {"status": "ok", "version": __version__, "engine": settings.engine}

    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    security = TransportSecuritySettings(allowed_hosts=list(hosts), allowed_origins=origins)
    # Last, since it takes every path that no route above does; the endpoint is /mcp.
    app.mount("/", server.streamable_http_app(transport_security=security))
    return app


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen, and the further names that clients reach it by."""

    host: str
    port: int
    names: tuple[str, ...] = ()

    def hosts(self, bound: int) -> list[str]:
        """Return the `Host` headers to answer to; a further name also stands without the port, as a proxy sends it."""
        here = dict.fromkeys((_in_url(self.host), "127.0.0.1", "localhost"))
        return [*(f"{name}:{bound}" for name in (*here, *self.names)), *self.names]


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _auth_settings(host: str) -> AuthSettings:
    here = AnyHttpUrl(f"http://{host}")
    return AuthSettings(issuer_url=here, resource_server_url=here, required_scopes=[], validate_token_resource=False)


def serve_http(settings: Settings, place: Place, token: str | None) -> None:
    """Serve until interrupted.

    Raises:
        SettingsError: the address cannot be listened on.
        StoreError: the store cannot be opened.
    """
    # Before there is a server, whose own report of a failed start is a traceback.
    asyncio.run(_check_store(settings.store))
    with socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((place.host, place.port))
            # From here on no other process can listen on it.
            listener.listen(_BACKLOG)
        except OSError as error:
            where = f"{_in_url(place.host)}:{place.port}"
            raise SettingsError(
                f"cannot listen on {where}: {error.strerror}; choose another --port or --host"
            ) from error
        bound = listener.getsockname()[1]
        app = build_app(settings, hosts=place.hosts(bound), token=token)
        sys.stderr.write(f"magnet-server: serving http://{_in_url(place.host)}:{bound}/mcp\n")
        sys.stderr.flush()
        # A host keeps its stream open for as long as it runs; it must not keep the server from stopping.
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_S, backlog=_BACKLOG
        )
        uvicorn.Server(config).run(sockets=[listener])


async def _check_store(url: str) -> None:
    async with open_store(url) as store:
        await store.list_unfinished()
