"""`magnet-batch --ray` and `magnet evaluate --ray` on a real Ray of two cores, and what survives what."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest
from batch_command import (
    CALLS,
    TIMEOUT_S,
    TURNS,
    clean_environ,
    command,
    converse,
    endpoint,
    read_json,
    read_lines,
    run_batch,
    session_ids,
    wait_until,
    write_intakes,
)
from fake_openai import FakeOpenAI, serve_fake_openai

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for the processes that Ray starts")

SESSIONS = 8
EACH = 2
"""Sessions at once on an actor."""

ARGUMENTS = ("intakes.jsonl", "-o", "out", "--turns", TURNS, "--concurrency", EACH, "--ray", "--ray-actors", 2)
MOST_IN_FLIGHT = EACH * 6
"""Calls that one actor may have under way: a session asks the technique selector and the five specialists at once."""


@pytest.fixture
def fake() -> Generator[FakeOpenAI]:
    with serve_fake_openai(converse, delay_s=0.1) as server:
        yield server


def descendants(process: int) -> dict[int, str]:
    """Return the command lines of all processes that a process has started, and those have started, …"""
    found: dict[int, str] = {}
    waiting = [process]
    while waiting:
        for path in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                children = [int(child) for child in path.read_text("ascii").split()]
                found |= {child: Path(f"/proc/{child}/cmdline").read_text("utf-8", "replace") for child in children}
            except (FileNotFoundError, ProcessLookupError):
                continue
            waiting += children
    return found


def start(tmp_path: Path, fake: FakeOpenAI, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
    """Start a run and return it in its middle."""
    write_intakes(tmp_path / "intakes.jsonl", SESSIONS)
    run = subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        env=clean_environ(**endpoint(fake), **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    wait_until(lambda: len(fake.calls) > SESSIONS * CALLS // 3 or run.poll() is not None)
    return run


def actors_of(process: int) -> list[int]:
    return [child for child, line in descendants(process).items() if line.startswith("ray::SessionActor")]


def servers_of(process: int) -> list[int]:
    return [child for child, line in descendants(process).items() if "magnet_server" in line]


def check_whole(out: Path, fake: FakeOpenAI, *, repeated: int) -> None:
    """Check that every session is there once, whole, and that no more calls were made twice than may be."""
    assert len(session_ids(out)) == len(set(session_ids(out))) == SESSIONS
    for session in read_lines(out / "sessions.jsonl"):
        assert session["status"] == "finished"
        assert len(cast(list[object], session["dialogue"])) == 2 + 2 * TURNS
    assert len(fake.counts) == SESSIONS * CALLS
    assert len(fake.calls) - len(fake.counts) <= repeated


def test_an_actor_that_is_killed_costs_no_session_and_no_finished_call(tmp_path: Path, fake: FakeOpenAI) -> None:
    run = start(tmp_path, fake, *ARGUMENTS)
    killed, _ = actors_of(run.pid)
    [server] = servers_of(killed)
    os.kill(killed, signal.SIGKILL)
    printed, said = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 0, said
    print(printed, said, len(fake.calls) - len(fake.counts))
    assert f"Sessions:  {SESSIONS} finished, 0 failed" in printed
    assert "is lost, others go on with its sessions" in said
    assert not Path(f"/proc/{server}").exists()
    check_whole(tmp_path / "out", fake, repeated=2 * MOST_IN_FLIGHT)


def test_ctrl_c(tmp_path: Path, fake: FakeOpenAI) -> None:
    run = start(tmp_path, fake, *ARGUMENTS)
    family = descendants(run.pid)
    print(family)
    os.kill(run.pid, signal.SIGINT)
    printed, said = run.communicate(timeout=TIMEOUT_S)
    print(printed, said)
    assert run.returncode == 130
    assert [p for p in family if Path(f"/proc/{p}").exists()] == []
    done = run_batch(*ARGUMENTS, cwd=tmp_path, environ=endpoint(fake))
    assert done.returncode == 0, done.stderr
    check_whole(tmp_path / "out", fake, repeated=2 * MOST_IN_FLIGHT)
