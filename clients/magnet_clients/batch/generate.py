"""The sessions themselves: begun, followed to their end and written down, some at once."""

import hashlib
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
from mcp import Client
from pydantic import BaseModel

from magnet_clients.batch.cases import Case
from magnet_clients.batch.files import Folder
from magnet_clients.batch.notices import Notices
from magnet_clients.batch.options import Options
from magnet_clients.batch.progress import Display, Tally
from magnet_clients.batch.spending import Spending
from magnet_clients.connect import call_tool, read_resource
from magnet_clients.errors import ToolFailedError

_HOPELESS = frozenset({"authentication", "model_not_found", "no_credit", "budget", "store"})
"""Failures that every other session would meet too."""

_SHARED = frozenset({"unreachable", "endpoint_fault", "rate_limited", "settings", "request"})
"""Failures that every other session meets too if a few in a row did."""

_FEW = 3
_TOLD_ONE_BY_ONE = 5

# The longest wait that hosts allow is 45 s; a shorter one lets the progress show exchanges as they come, as long as
# the sessions are few enough for asking to cost nothing.
_LONG_WAIT_S, _SHORT_WAIT_S, _FEW_ENOUGH = 45, 5, 64


class Usage(BaseModel):
    """What a session's model calls took."""

    calls: int
    prompt_tokens: int
    cached_prompt_tokens: int = 0
    completion_tokens: int
    cost_usd: float | None


class Failure(BaseModel):
    """Why a session failed."""

    kind: str
    message: str


class Flagged(BaseModel):
    """What the engine says is still wrong with a plan or an exchange, as `agent.problem`."""

    flags: tuple[str, ...] = ()


class Flags(BaseModel):
    """The flags in a session's record."""

    plan: Flagged | None = None
    turns: tuple[Flagged, ...] = ()

    def problems(self) -> Iterator[str]:
        """Give the problem of each flag, without the agent."""
        for part in (self.plan or Flagged(), *self.turns):
            yield from (flag.rpartition(".")[2] for flag in part.flags)


class SessionState(BaseModel):
    """A session as the server shows it."""

    status: str
    exchanges: int
    usage: Usage
    error: Failure | None

    @property
    def spending(self) -> Spending:
        """What the session has come to; before its first call there is no price to know or not to know."""
        usage = self.usage
        cost = usage.cost_usd if usage.calls else 0.0
        tokens = (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens)
        return Spending(self.exchanges, usage.calls, *tokens, cost)


class Servers:
    """The servers of a run; each session goes to the one that has the fewest."""

    def __init__(self, clients: Sequence[Client]) -> None:
        """Begin with none of them busy."""
        self.clients = clients
        self._busy = [0] * len(clients)

    @contextmanager
    def lend(self) -> Generator[Client]:
        """Give the least busy server for one session."""
        chosen = self._busy.index(min(self._busy))
        self._busy[chosen] += 1
        try:
            yield self.clients[chosen]
        finally:
            self._busy[chosen] -= 1


@dataclass(slots=True)
class Batch:
    """One run: what it works on, and how far it is."""

    options: Options
    folder: Folder
    servers: Servers
    display: Display
    is_redoing: bool
    tally: Tally = field(default_factory=Tally)
    stopped: Failure | None = None
    failed_in_a_row: int = 0


def session_id_of(case: Case, options: Options) -> str:
    """Return the id of the case's session, the same whenever the same run is made."""
    made_with = (case.digest, options.method, options.turns, options.min_turns, options.seed)
    digest = hashlib.sha256(repr(made_with).encode()).hexdigest()[:10]
    return f"{case.id[:80]}.{options.method}.{digest}"


async def generate_sessions(batch: Batch, cases: Iterable[Case]) -> None:
    """Generate a session for each case and write it down; a failed one is written down as failed.

    Raises:
        ServerLostError: the server is gone.
        ClientError: OUT can no longer be written.
    """
    waiting = iter(cases)
    batch.tally.turns = batch.options.turns

    async def work() -> None:
        for case in waiting:
            if batch.stopped:
                return
            await _generate(batch, case, session_id_of(case, batch.options))

    async with anyio.create_task_group() as showing:
        showing.start_soon(_keep_showing, batch)
        notices = Notices(batch.display.say)
        for client in batch.servers.clients:
            showing.start_soon(notices.follow, client)
        async with anyio.create_task_group() as group:
            for _ in range(min(batch.options.concurrency, batch.tally.left)):
                group.start_soon(work)
        for client in batch.servers.clients:
            await notices.ask(client)
        showing.cancel_scope.cancel()
    batch.display.end(batch.tally)


async def _keep_showing(batch: Batch) -> None:
    while True:
        batch.display.update(batch.tally)
        batch.folder.renew()
        await anyio.sleep(1)


async def _generate(batch: Batch, case: Case, session_id: str) -> None:
    tally = batch.tally
    tally.running[session_id] = Spending()
    try:
        with batch.servers.lend() as client:
            state = await _follow(client, batch, case)
            if state.status == "finished":
                record = await read_resource(client, f"session://{session_id}")
                batch.folder.add_session(record)
                tally.flags.update(Flags.model_validate_json(record).problems())
    except ToolFailedError as error:
        tally.lost += tally.running.pop(session_id)
        _fail(batch, case, Failure(kind="request", message=str(error)))
    else:
        if state.status == "finished":
            batch.failed_in_a_row = 0
            tally.finished += 1
            tally.spent += state.spending
        else:
            tally.lost += state.spending
            # A session that was cancelled in the meantime has no error of its own.
            _fail(batch, case, state.error or Failure(kind=state.status, message=f"the session was {state.status}"))
    finally:
        tally.running.pop(session_id, None)
    batch.display.update(tally)


async def _follow(client: Client, batch: Batch, case: Case) -> SessionState:
    options, session_id = batch.options, session_id_of(case, batch.options)
    wait_s = _SHORT_WAIT_S if options.concurrency <= _FEW_ENOUGH else _LONG_WAIT_S
    begin: dict[str, object] = {
        "intake_id": case.id,
        "method": options.method,
        "max_turns": options.turns,
        "min_turns": options.min_turns,
        "seed": options.seed,
        "session_id": session_id,
    }
    # Answered at once, so that what an earlier run had paid for is known from what this one does.
    begun_at = time.monotonic()
    first = await call_tool(client, "generate_session", {**begin, "redo": batch.is_redoing})
    state = SessionState.model_validate(first)
    is_new = not state.usage.calls
    batch.tally.brought += state.spending
    while state.status == "running":
        batch.tally.running[session_id] = state.spending
        seen = state
        shown = await call_tool(client, "get_session", {"session_id": session_id, "wait_seconds": wait_s})
        state = SessionState.model_validate(shown)
        if state == seen:
            # Nothing has moved: if the process that had the session is gone, this makes the server take it up.
            state = SessionState.model_validate(await call_tool(client, "generate_session", begin))
    if is_new and state.status == "finished":
        batch.tally.took_s[session_id] = time.monotonic() - begun_at
    return state


def _fail(batch: Batch, case: Case, failure: Failure) -> None:
    batch.tally.failed += 1
    session_id = session_id_of(case, batch.options)
    batch.folder.add_failure({"session_id": session_id, "intake_id": case.id, **failure.model_dump()})
    if batch.stopped:
        return
    batch.failed_in_a_row = batch.failed_in_a_row + 1 if failure.kind in _SHARED else 0
    enough = batch.options.concurrency if batch.tally.finished else _FEW
    if failure.kind in _HOPELESS or batch.failed_in_a_row >= max(_FEW, enough):
        batch.stopped = failure
        batch.display.say(f"no further sessions are begun: {failure.message}")
    elif batch.tally.failed <= _TOLD_ONE_BY_ONE:
        batch.display.say(f"{session_id} failed: {failure.message}")
    elif batch.tally.failed == _TOLD_ONE_BY_ONE + 1:
        batch.display.say(f"more sessions fail; {batch.folder.failures_path} says why")
