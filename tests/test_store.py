"""The store: what goes in comes out, nothing committed is lost, and every failure says what to do."""

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playing import ADA, open_stage, plan, play
from scripted import Scripted, speak
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from magnet.agents import Technique
from magnet.config import Settings
from magnet.dialogue import Role
from magnet.errors import SessionRequestError, StoreError
from magnet.intakes import Attitude
from magnet.llm import Address, Choice, Completion, Message, Request, Usage
from magnet.pipeline.sessions import start_session
from magnet.records import ErrorRecord, PlanRecord, SessionSummary, TurnRecord, UtteranceRecord
from magnet.runtime import open_runtime
from magnet.store.rows import StoredCall, StoredMessage
from magnet.store.store import SessionFilter, Store, open_store


def call(number: int, scope: str = "s", text: str = "Yes.") -> StoredCall:
    """Return a finished call of session "s"."""
    request = Request("composer", (Message("user", f"Say {number}."),), "m", address=Address(scope, number))
    completion = Completion((Choice(text, "length"), Choice("No.")), Usage(10, 4, 2), "m", 0.25)
    return StoredCall("s", "counselor", request, completion, 0.5, "2026-01-01T00:00:00.000+00:00")


def database_of(settings: Settings) -> Path:
    """Return the file of a SQLite store."""
    return Path(settings.store.removeprefix("sqlite:///"))


@contextmanager
def on_every_connection(*statements: str) -> Generator[None, None, None]:
    """Run statements on each database connection that is opened meanwhile."""

    def prepare(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()

    event.listen(Engine, "connect", prepare)
    try:
        yield
    finally:
        event.remove(Engine, "connect", prepare)


# What goes in comes out


async def test_a_session_comes_back_as_it_was_kept(settings: Settings) -> None:
    plan_record = PlanRecord(technique=None, text="1. Hör zu — 眠れない 🙂\n2. {x}", flags=("planner.unreadable",))
    counselor = StoredMessage(
        2, Role.COUNSELOR, "Wie geht's?", (Technique.QUESTIONING,), {Technique.REFLECTION: ""}, ("composer.truncated",)
    )
    client = StoredMessage(3, Role.CLIENT, "", flags=("client.empty", "client.early_end"))
    async with open_stage(settings, Scripted()) as stage:
        session, store = await start_session(stage.studio, plan(turns=3)), stage.studio.store
        await store.set_plan("s", plan_record)
        await store.append_message("s", counselor)
        await store.append_message("s", client)
        # A session that goes on after a crash writes again what it had written.
        await store.append_message("s", counselor)
    async with open_store(settings.store) as store:
        found = await store.get_session("s")
    said = (UtteranceRecord(role=Role.COUNSELOR, text="Wie geht's?"), UtteranceRecord(role=Role.CLIENT, text=""))
    turn = TurnRecord(
        index=0,
        techniques=(Technique.QUESTIONING,),
        candidates={Technique.REFLECTION: ""},
        flags=("composer.truncated", "client.empty", "client.early_end"),
    )
    assert found == session.model_copy(
        update={"plan": plan_record, "dialogue": (*session.dialogue, *said), "turns": (turn,)}
    )


async def test_calls_come_back_by_key_and_by_scope(settings: Settings) -> None:
    calls = [call(0), call(1), call(2, scope="another")]
    async with open_store(settings.store) as store:
        for finished in calls:
            await store.record_call(finished)
        # The first answer to a call stays.
        await store.record_call(call(0, text="Something else."))
        assert await store.find_call(calls[0].request.key) == calls[0].completion
        assert await store.find_call("no such key") is None
        assert await store.find_calls("s") == {finished.request.key: finished.completion for finished in calls[:2]}


async def test_intakes_are_kept_by_id_and_replaced(settings: Settings) -> None:
    changed = ADA.model_copy(update={"licence": None})
    other = ADA.model_copy(update={"id": "ada-negative", "attitude": Attitude.NEGATIVE})
    async with open_store(settings.store) as store:
        await store.put_intakes([ADA, other])
        await store.put_intakes([changed])
        assert await store.find_intake("ada-positive") == changed
        assert await store.find_intake("nobody") is None
        assert await store.list_intakes() == [other, changed]


async def test_sessions_are_listed_by_id_a_page_at_a_time(settings: Settings) -> None:
    async with open_stage(settings, Scripted()) as stage:
        for number, method in enumerate(["psych8k", "psych8k", "cactus"]):
            await stage.play(plan(method, session_id=f"s{number}"))
        await start_session(stage.studio, plan("psych8k", session_id="s3"))
        store = stage.studio.store

        async def list_ids(wanted: SessionFilter) -> list[str]:
            return [session.id for session in await store.list_sessions(wanted)]

        assert await list_ids(SessionFilter()) == ["s0", "s1", "s2", "s3"]
        assert await list_ids(SessionFilter(limit=2)) == ["s0", "s1"]
        assert await list_ids(SessionFilter(limit=2, after="s1")) == ["s2", "s3"]
        assert await list_ids(SessionFilter(method="psych8k", status="finished")) == ["s0", "s1"]
        assert await list_ids(SessionFilter(status="running")) == ["s3"]
        assert await list_ids(SessionFilter(intake_id="nobody")) == []
        (summary,) = await store.list_sessions(SessionFilter(method="cactus"))
    assert summary == SessionSummary(
        id="s2",
        intake_id="ada-positive",
        method="cactus",
        attitude=Attitude.POSITIVE,
        engine="rehearsal",
        status="finished",
        ended_by="turn_limit",
        exchanges=1,
        created_at=summary.created_at,
    )


async def test_a_turn_is_not_added_twice_nor_to_an_ended_session(settings: Settings) -> None:
    message = StoredMessage(2, Role.COUNSELOR, "Hello again.")
    async with open_stage(settings, Scripted()) as stage:
        await start_session(stage.studio, plan())
        store = stage.studio.store
        outcomes = await asyncio.gather(
            *(store.add_message("s", message, None) for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", *["SessionRequestError"] * 2]
        await store.add_message("s", StoredMessage(3, Role.CLIENT, "Goodbye."), "client")
        with pytest.raises(SessionRequestError, match="the session 's' has ended; branch_session goes on from it"):
            await store.add_message("s", StoredMessage(4, Role.COUNSELOR, "Wait."), None)
        session = await store.get_session("s")
    assert (session.status, session.ended_by, len(session.dialogue)) == ("finished", "client", 4)


async def test_a_store_in_memory_works_like_any_other(settings: Settings) -> None:
    session = await play(settings.model_copy(update={"store": "sqlite:///:memory:"}), Scripted())
    assert (session.status, session.usage.calls) == ("finished", 9)


# Writing in groups


async def test_rows_written_at_once_share_transactions_and_are_all_committed(settings: Settings) -> None:
    commits: list[object] = []

    def count(connection: object) -> None:
        commits.append(connection)

    event.listen(Engine, "commit", count)
    try:
        async with open_store(settings.store) as store:
            await store.find_call("opens the database")
            commits.clear()
            await asyncio.gather(*(store.record_call(call(number)) for number in range(500)))
            assert len(commits) <= 3
            with sqlite3.connect(database_of(settings)) as beside:
                assert beside.execute("select count(*) from calls").fetchone() == (500,)
            beside.close()
    finally:
        event.remove(Engine, "commit", count)


async def test_a_write_whose_waiter_is_cancelled_is_committed_all_the_same(settings: Settings) -> None:
    async with open_store(settings.store) as store:
        writing = asyncio.create_task(store.record_call(call(0)))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
        await store.record_call(call(1))
        assert len(await store.find_calls("s")) == 2


async def test_closing_commits_what_still_waits(settings: Settings) -> None:
    async with open_store(settings.store) as store:
        writing = asyncio.create_task(store.record_call(call(0)))
        await asyncio.sleep(0)
    await writing
    async with open_store(settings.store) as store:
        assert len(await store.find_calls("s")) == 1


async def test_two_programs_may_open_a_new_store_at_once(settings: Settings) -> None:
    async with open_store(settings.store) as one, open_store(settings.store) as other:
        await asyncio.gather(*(store.record_call(call(number)) for number in range(20) for store in (one, other)))
        assert len(await one.find_calls("s")) == 20


# Claims


async def test_a_session_has_one_owner_until_it_is_let_go_ended_or_given_up(settings: Settings) -> None:
    async with open_stage(settings, Scripted()) as stage:
        await start_session(stage.studio, plan())
        store = stage.studio.store
        assert await store.claim("s", "one", 60)
        assert await store.claim("s", "one", 60)
        assert not await store.claim("s", "two", 60)
        await store.release("s", "two")
        assert await store.find_owner("s") == "one"
        assert await store.claim("s", "two", 60, dead_owners=["zero", "one"])
        await store.release("s", "two")
        assert await store.find_owner("s") is None
        assert await store.claim("s", "three", -1)
        assert await store.claim("s", "four", 60), "the claim of three has expired"
        await store.set_ended("s", "cancelled", "cancelled")
        assert await store.find_owner("s") is None


async def test_renewing_extends_what_is_held_and_tells_what_was_lost(settings: Settings) -> None:
    async with open_stage(settings, Scripted()) as stage:
        store = stage.studio.store
        for session_id in ("held", "ended", "taken"):
            await start_session(stage.studio, plan(session_id=session_id))
            await store.claim(session_id, "one", -1)
        await store.set_ended("ended", "cancelled", "cancelled")
        assert await store.claim("taken", "two", 60)
        assert await store.renew_claims("one", 60) == {"held"}
        assert not await store.claim("held", "two", 60)


def dead_pid() -> int:
    """Return the id of a process that is gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


@pytest.mark.parametrize(
    ("owner", "is_taken_up"),
    [
        (lambda: f"{socket.gethostname()}:{dead_pid()}:abc", True),
        (lambda: f"{socket.gethostname()}:{os.getppid()}:abc", False),
        (lambda: "elsewhere.example:1:abc", False),
        (lambda: "not an owner we write", False),
    ],
    ids=["dead", "living", "elsewhere", "unknown"],
)
async def test_a_session_of_a_dead_process_is_taken_up_and_that_of_a_living_one_is_not(
    settings: Settings, owner: object, is_taken_up: bool
) -> None:
    assert callable(owner)
    async with open_stage(settings, Scripted()) as stage:
        await start_session(stage.studio, plan())
        await stage.studio.store.claim("s", str(owner()), 60)
        assert await stage.jobs.start("s") is is_taken_up
        session = await stage.jobs.wait("s", 30 if is_taken_up else 0)
    assert session.status == ("finished" if is_taken_up else "running")


async def test_what_another_process_makes_is_not_begun_again_under_it(settings: Settings) -> None:
    async with open_stage(settings, Scripted()) as stage:
        await start_session(stage.studio, plan(seed=1))
        await stage.studio.store.claim("s", "elsewhere.example:1:abc", 60)
        assert (await stage.jobs.generate(plan(seed=1))).status == "running"
        with pytest.raises(SessionRequestError, match="another process is making the session 's' with other prompts"):
            await stage.jobs.generate(plan(seed=2))
        assert stage.scripted.calls == []


# Trouble


async def test_nothing_is_made_on_disk_before_the_first_use(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    url = f"sqlite:///{folder}/magnet.db"
    async with open_runtime(settings.model_copy(update={"store": url}), Scripted()) as runtime:
        assert not folder.exists()
        assert await runtime.studio.store.find_session("s") is None
        assert folder.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("magnet.db", "the store is not a database URL; write sqlite:///path/to/file.db"),
        (
            "mysql://me:secret@host/db",
            "the store mysql://me:***@host/db is of an unknown kind; use sqlite:///… or postg",
        ),
    ],
)
async def test_an_unusable_url_is_told_at_once_and_without_its_password(url: str, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        async with open_store(url):
            pass
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


async def explain_failure(store_url: str) -> str:
    """Return what is said when a store cannot be read and when it cannot be written, which must be the same."""

    async def fail(store: Store) -> str:
        with pytest.raises(StoreError) as caught:
            await store.find_session("s")
        with pytest.raises(StoreError) as again:
            await store.record_call(call(0))
        assert str(caught.value) == str(again.value)
        return str(caught.value)

    async with open_store(store_url) as store:
        return await fail(store)


@pytest.mark.parametrize("place", ["under a file", "a folder", "no place at all"])
async def test_a_place_that_cannot_be_written_is_named_with_the_cure(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    path = {"under a file": tmp_path / "file" / "a.db", "a folder": tmp_path, "no place at all": Path("/proc/no/a.db")}
    message = await explain_failure(f"sqlite:///{path[place]}")
    assert message.startswith(f"cannot use the store sqlite:///{path[place]}: ")
    assert message.endswith("choose a place that can be written, with --store or MAGNET_STORE")


async def test_a_store_of_a_newer_version_is_refused_and_left_alone(settings: Settings) -> None:
    async with open_store(settings.store) as store:
        await store.record_call(call(0))
    with sqlite3.connect(database_of(settings)) as beside:
        beside.execute("update schema_version set version = 99")
    beside.close()
    message = await explain_failure(settings.store)
    assert message.startswith("the store was written by a newer version (schema 99, this one knows 1): upgrade")


async def test_the_file_of_another_program_is_refused(settings: Settings) -> None:
    with sqlite3.connect(database_of(settings)) as beside:
        beside.execute("create table bookmarks (url text)")
    beside.close()
    assert "is another program's database; name a store of its own" in await explain_failure(settings.store)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(settings: Settings) -> None:
    database_of(settings).write_text("Dear diary, " * 1000)
    assert "file is not a database" in await explain_failure(settings.store)
    assert database_of(settings).read_text().startswith("Dear diary")


async def test_a_text_that_no_database_takes_fails_its_own_write_alone(settings: Settings) -> None:
    async with open_stage(settings, Scripted()) as stage:
        await start_session(stage.studio, plan())
        store = stage.studio.store
        with pytest.raises(StoreError):
            await store.append_message("s", StoredMessage(2, Role.COUNSELOR, "\ud800"))
        await store.append_message("s", StoredMessage(2, Role.COUNSELOR, "Yes."))
        assert (await store.get_session("s")).dialogue[2].text == "Yes."


async def test_a_full_disk_is_told_and_loses_nothing_that_was_committed(settings: Settings) -> None:
    wanted = plan(turns=20)
    async with open_stage(settings, Scripted()) as stage:
        await start_session(stage.studio, wanted)
    with sqlite3.connect(database_of(settings)) as beside:
        (pages,) = beside.execute("PRAGMA page_count").fetchone()
    beside.close()
    with on_every_connection(f"PRAGMA max_page_count = {pages + 10}"):
        session = await play(settings, Scripted(), wanted)
    assert session.error == ErrorRecord(
        kind="store",
        message=f"cannot use the store {settings.store}: the disk is full; free some space and run the same command "
        "again: what was finished is kept",
    )
    async with open_store(settings.store) as store:
        kept = await store.find_calls("s")
    assert 0 < session.usage.calls == len(kept) < 161
    finished = await play(settings, again := Scripted(), wanted)
    assert (finished.status, finished.usage.calls, len(finished.turns)) == ("finished", 161, 20)
    assert not kept.keys() & {request.key for request in again.requests}
    assert len(again.calls) == 161 - len(kept)
    assert finished.dialogue[: len(session.dialogue)] == session.dialogue


async def test_a_store_that_takes_no_more_writes_leaves_the_session_to_be_resumed(settings: Settings) -> None:
    allowed = True

    def allow_writing(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if allowed else 'ON'}")

    def speak_but_forbid(request: Request) -> str:
        nonlocal allowed
        allowed = False
        return speak(request)

    event.listen(Engine, "begin", allow_writing)
    try:
        async with open_stage(settings, Scripted(speak_but_forbid)) as stage:
            await stage.jobs.generate(plan())
            with pytest.raises(StoreError, match="attempt to write a readonly database; choose a place that can be"):
                await stage.jobs.wait("s", 30)
            assert (await stage.studio.store.get_session("s")).status == "running"
            allowed, stage.scripted.script = True, speak
            assert (await stage.play()).status == "finished"
    finally:
        event.remove(Engine, "begin", allow_writing)
