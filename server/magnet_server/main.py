"""`magnet-server`: the MCP server over stdio (what hosts start) or HTTP."""

import argparse
import gc
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import anyio

from magnet import __version__
from magnet.config import REHEARSAL, Settings, load_settings
from magnet.errors import MagnetError, SettingsError
from magnet.prompts.loading import load_pack

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_EPILOG = """\
examples:
  magnet-server                                 serve one host over stdio (Claude Desktop, VS Code, …)
  magnet-server --transport http --port 8765    serve http://127.0.0.1:8765/mcp
  magnet-server --store sqlite:///sessions.db   keep sessions in this file

Synthetic sessions for research and training; not care.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until the host closes it, and return the exit status."""
    options = _parse(arguments)
    try:
        settings = load_settings(store=options.store, prompts=options.prompts)
        # A pack that cannot be loaded is told here, in one line, not inside the protocol.
        load_pack(settings.prompts)
        if settings.engine == REHEARSAL:
            _say(
                "no model endpoint is configured: the rehearsal engine, which is not a language model, writes the "
                "sessions. Set OPENAI_API_KEY, or OPENAI_BASE_URL and MAGNET_LLM__MODEL, to use a model."
            )
        return _serve(settings, options)
    except (MagnetError, ExceptionGroup) as raised:
        error = _find_foreseen(raised)
        if error is None:
            raise
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _find_foreseen(raised: MagnetError | ExceptionGroup[Exception]) -> MagnetError | None:
    """Return the error of ours that this is, or that the tasks which failed together hold."""
    if isinstance(raised, MagnetError):
        return raised
    ours = raised.subgroup(MagnetError)
    while isinstance(ours, ExceptionGroup):
        first = ours.exceptions[0]
        if isinstance(first, MagnetError):
            return first
        ours = first
    return None


def _serve(settings: Settings, options: argparse.Namespace) -> int:
    if options.transport == "stdio":
        _serve_stdio(settings)
        return 0
    token = _read_token(options.token_file) if options.token_file else options.token
    if options.host not in LOOPBACK and not token:
        raise SettingsError(
            f"--host {options.host} is open to others: protect it with --token-file or --token (or MAGNET_TOKEN)"
        )
    # FastAPI and uvicorn cost a third of a second that no stdio host should wait for.
    from magnet_server.http import Place, serve_http

    serve_http(settings, Place(options.host, options.port, tuple(options.allow_host)), token)
    return 0


def _read_token(path: Path) -> str:
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot read the token file {path}: {reason}") from error
    if not token:
        raise SettingsError(f"the token file {path} is empty")
    return token


def _serve_stdio(settings: Settings) -> None:
    # The protocol owns stdout. The SDK keeps it clean while it serves; whatever a library prints before, while it is
    # imported, or has left in Python's buffer after, goes to stderr.
    with _stdout_to_stderr(), _keep_garbage():
        from magnet_tools.server import build_server

        server = build_server(settings)
    try:
        anyio.run(server.run_stdio_async)
    finally:
        with _stdout_to_stderr():
            pass


@contextmanager
def _stdout_to_stderr() -> Generator[None, None, None]:
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _keep_garbage() -> Generator[None, None, None]:
    """Look for no garbage meanwhile: imports leave little, and looking for it takes a tenth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line, as every other error, since it is what a host shows of a server that does not start.
        self.exit(2, f"{self.prog}: error: {message}; {self.prog} --help shows the options\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="magnet-server",
        description="MAGneT counseling agents and sessions as an MCP server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--transport", choices=("stdio", "http"), default="stdio", help="default: stdio, as hosts expect"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (http); others than loopback need --token"
    )
    parser.add_argument("--port", type=_port, default=8765, help="port to listen on (http); 0 takes a free one")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that clients reach this server by, e.g. magnet.example.org (http); may be repeated",
    )
    parser.add_argument("--store", metavar="URL", help="where sessions are kept, e.g. sqlite:///magnet.db")
    parser.add_argument("--prompts", type=Path, metavar="DIR", help="prompt pack: ours, or the paper's prompts/ folder")
    parser.add_argument("--token", default=os.environ.get("MAGNET_TOKEN"), help="bearer token clients must send (http)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file that holds the bearer token (http)")
    parser.add_argument("--version", action="version", version=f"magnet-server {__version__}")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 to 65535")
    return int(text)


def _say(text: str) -> None:
    sys.stderr.write(f"magnet-server: {text}\n")
