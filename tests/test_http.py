"""Serving over HTTP: a real uvicorn server on loopback, in both protocol eras."""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2
import pytest
import uvicorn
from fake_openai import Answer, Body, FakeOpenAI, chat, serve_fake_openai
from magnet_server.app import build_app
from magnet_server.listening import Place
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_support import (
    ERAS,
    INTAKE,
    SERVER,
    SNAPSHOT,
    RuledModel,
    call,
    clear_environ,
    error_line,
    model_settings,
    run_main,
    server_environ,
)

from magnet import __version__

TOKEN = "correct-horse"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    with serve(tmp_path_factory.mktemp("open"), None) as address:
        yield address


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    with serve(tmp_path_factory.mktemp("guarded"), TOKEN) as address:
        yield address


@contextmanager
def serve(folder: Path, token: str | None) -> Generator[str, None, None]:
    """Run the app in a thread, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        app = build_app(model_settings(folder), hosts=[host], token=token, backend_factory=RuledModel().open)
        server = uvicorn.Server(uvicorn.Config(app, log_level=60, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://{host}"
        finally:
            server.should_exit = True
            thread.join()


@asynccontextmanager
async def reach(address: str, era: str, **headers: str) -> AsyncGenerator[Client, None]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=era, cache=None) as client,
    ):
        yield client


def post(origin: str, /, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{origin}/mcp", json=PING, headers={**ACCEPT, **headers})


async def test_every_tool_is_there_over_http(origin: str, era: str) -> None:
    async with reach(origin, era) as client:
        assert {tool["name"] for tool in json.loads(SNAPSHOT.read_text("utf-8"))} == {
            tool.name for tool in (await client.list_tools()).tools
        }
        reply = await call(client, "generate_session", intake_id=INTAKE, max_turns=1, wait_seconds=45)

    assert reply.data["status"] == "finished"


async def test_a_session_outlives_the_client_that_began_it(origin: str, era: str) -> None:
    async with reach(origin, era) as client:
        begun = await call(client, "generate_session", intake_id=INTAKE, max_turns=5)
    async with reach(origin, era) as client:
        ended = await call(client, "get_session", session_id=begun.data["session_id"], wait_seconds=45)

    assert (ended.data["status"], ended.data["exchanges"]) == ("finished", 5)


def test_the_server_says_that_it_is_up(guarded: str) -> None:
    assert httpx2.get(f"{guarded}/healthz").json() == {"status": "ok", "version": __version__, "engine": "openai"}


def test_another_host_name_is_refused_lest_a_web_page_reaches_us_by_dns(origin: str) -> None:
    assert post(origin, host="evil.example").status_code == 421


async def test_a_web_page_from_elsewhere_is_refused_and_one_of_our_own_is_not(origin: str, era: str) -> None:
    assert post(origin, origin="http://evil.example").status_code == 403
    async with reach(origin, era, origin=origin) as client:
        await call(client, "list_sessions")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}])
def test_a_missing_or_wrong_token_is_refused(guarded: str, headers: dict[str, str]) -> None:
    refused = post(guarded, **headers)

    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


async def test_the_right_token_is_let_in(guarded: str, era: str) -> None:
    async with reach(guarded, era, authorization=f"Bearer {TOKEN}") as client:
        assert (await call(client, "list_sessions")).data["sessions"] == []


def test_a_server_answers_to_the_names_it_is_reached_by() -> None:
    place = Place("::1", 0, ("magnet.example.org",))

    assert place.hosts(8765) == [
        "[::1]:8765",
        "127.0.0.1:8765",
        "localhost:8765",
        "magnet.example.org:8765",
        "magnet.example.org",
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is open to others: protect it with --token-file or --token"),
        (["--host", "no.such.host.invalid", "--token", "x"], "cannot listen on no.such.host.invalid:8765: "),
        (["--port", "70000"], "argument --port: '70000' is not a port; give a number from 0 to 65535"),
        (["--token-file", "nowhere"], "cannot read the token file nowhere: No such file or directory"),
        (["--token-file", "empty"], "the token file empty is empty"),
    ],
)
def test_a_server_that_cannot_listen_says_why_in_one_line(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    clear_environ(monkeypatch, tmp_path)
    (tmp_path / "empty").touch()

    assert run_main(["--transport", "http", "--store", "sqlite:///magnet.db", *arguments]) == 2
    assert error_line(capfd.readouterr().err).startswith(reason)


def test_a_store_that_cannot_be_opened_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clear_environ(monkeypatch, tmp_path)
    (tmp_path / "file").touch()

    assert run_main(["--transport", "http", "--store", "sqlite:///file/magnet.db"]) == 1
    assert error_line(capfd.readouterr().err).startswith("cannot use the store sqlite:///file/magnet.db: ")


def test_a_port_in_use_is_told_in_one_line(
    origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clear_environ(monkeypatch, tmp_path)
    port = origin.rsplit(":", 1)[1]

    assert run_main(["--transport", "http", "--store", "sqlite:///magnet.db", "--port", port]) == 2
    told = error_line(capfd.readouterr().err)
    assert told == f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port or --host"


# Processes that are killed and started again


@dataclass(frozen=True)
class Running:
    """A server process, and where it is reached."""

    process: subprocess.Popen[str]
    origin: str


@contextmanager
def start_process(folder: Path, endpoint: str) -> Generator[Running, None, None]:
    """Run `magnet-server` over HTTP with its store in a folder, until it is killed."""
    environ = server_environ(OPENAI_BASE_URL=endpoint, MAGNET_LLM__MODEL="served")
    command = [*SERVER, "--transport", "http", "--port", "0", "--store", "sqlite:///magnet.db"]
    with subprocess.Popen(command, env=environ, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        told = process.stderr.readline()
        assert told.startswith("magnet-server: serving http://127.0.0.1:"), told
        try:
            yield Running(process, told.split()[2].removesuffix("/mcp"))
        finally:
            process.kill()


def suit_everyone(body: Body) -> Answer:
    """Answer so that every agent's answer can be read, and none is asked for twice."""
    return chat(f"Reality Testing and Reflection for {len(str(body))} characters.")


@pytest.fixture
def endpoint() -> Generator[FakeOpenAI, None, None]:
    with serve_fake_openai(suit_everyone, delay_s=0.02) as fake:
        yield fake


async def have_called(fake: FakeOpenAI, calls: int) -> None:
    """Wait until the endpoint was called so often, twenty seconds at most."""
    with anyio.fail_after(20):
        while len(fake.calls) < calls:  # noqa: ASYNC110 the endpoint runs in another thread, and tells no event
            await anyio.sleep(0.005)


async def test_a_restarted_server_carries_on_what_a_killed_one_left(tmp_path: Path, endpoint: FakeOpenAI) -> None:
    with start_process(tmp_path, endpoint.base_url) as first:
        async with reach(first.origin, "auto") as client:
            await call(client, "generate_session", intake_id=INTAKE, session_id="mine", max_turns=4)
        await have_called(endpoint, 12)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(10)
    with start_process(tmp_path, endpoint.base_url) as second:
        async with reach(second.origin, "legacy") as client:
            ended = await call(client, "get_session", session_id="mine", wait_seconds=45)

    assert (ended.data["status"], ended.data["exchanges"]) == ("finished", 4)
    assert ended.data["usage"]["calls"] == 1 + 8 * 4
    # What was in flight at the kill is asked again, at most the seven that run together; nothing else is.
    assert len(endpoint.calls) - (1 + 8 * 4) <= 7


async def test_a_server_told_to_stop_does_so_though_a_host_is_connected(tmp_path: Path, endpoint: FakeOpenAI) -> None:
    with start_process(tmp_path, endpoint.base_url) as running:
        async with reach(running.origin, "legacy") as client:
            await call(client, "list_sessions")
            running.process.send_signal(signal.SIGTERM)
            status = await anyio.to_thread.run_sync(running.process.wait, 20)

    assert status == -signal.SIGTERM
