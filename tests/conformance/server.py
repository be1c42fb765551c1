"""The test-only build: our FastAPI app, whose MCP server has the conformance suite's fixtures added.

It serves on a free port of loopback, keeps its store in the working directory, and says on stderr where it listens, as
`magnet-server` does.
"""

import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from magnet_server.app import build_app
from magnet_tools.registry import Server
from magnet_tools.server import build_server

from conformance import asking_fixtures, content_fixtures, library_fixtures, rounds_fixtures
from magnet.config import Settings, load_settings


def make_server(settings: Settings, **options: Any) -> Server:  # noqa: ANN401 whatever build_server takes
    """Return our server with the fixtures added."""
    server = build_server(settings, **options)
    for fixtures in (content_fixtures, asking_fixtures, rounds_fixtures, library_fixtures):
        fixtures.register(server)
    return server


def main() -> None:
    """Serve until it is ended."""
    settings = load_settings({}, directory=Path.cwd(), store="sqlite:///magnet.db")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        app = build_app(settings, hosts=[host], make_server=make_server)
        print(f"conformance: serving http://{host}/mcp", file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).run(sockets=[listener])


if __name__ == "__main__":
    main()
