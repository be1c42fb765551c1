"""Sessions as tools: start, add a turn, look, list, cancel, branch, generate."""

from typing import Annotated, Literal

from mcp.types import CallToolResult
from pydantic import Field

from magnet.dialogue import Role
from magnet.errors import SessionRequestError
from magnet.intake_files import parse_intake
from magnet.intakes import Attitude, Intake
from magnet.pipeline import sessions
from magnet.pipeline.sessions import MAX_TURNS, MIN_TURNS, SessionPlan
from magnet.pipeline.variants import DEFAULT_METHOD
from magnet.records import SessionRecord, Status
from magnet.store.rows import StoredMessage
from magnet.store.store import MAX_LIST, SessionFilter
from magnet_tools.arguments import (
    CandidatesArgument,
    IntakeId,
    MaxTurns,
    MaybeAttitude,
    MethodName,
    MinTurns,
    NewSessionId,
    Seed,
    SessionId,
    Techniques,
    WaitSeconds,
    check_text,
)
from magnet_tools.registry import (
    GENERATES,
    READS,
    STOPS,
    WRITES,
    Ctx,
    Server,
    add_tool,
    result,
    runtime_of,
    session_link,
)
from magnet_tools.results import SessionListResult, SessionResult, session_result, session_text


def register(server: Server) -> None:
    """Add the session tools to the server."""
    add_tool(server, start_session, "Start a session", WRITES)
    add_tool(server, add_turn, "Add a turn", WRITES)
    add_tool(server, get_session, "Get a session", READS)
    add_tool(server, list_sessions, "List sessions", READS)
    add_tool(server, cancel_session, "Cancel a session", STOPS)
    add_tool(server, branch_session, "Branch a session", WRITES)
    add_tool(server, generate_session, "Generate a session", GENERATES)


async def start_session(
    ctx: Ctx,
    intake_id: IntakeId | None = None,
    intake: Annotated[dict[str, object] | None, Field(description="A case of your own, instead of intake_id")] = None,
    attitude: MaybeAttitude = None,
    method: MethodName = DEFAULT_METHOD,
    max_turns: MaxTurns = MAX_TURNS,
    min_turns: MinTurns = MIN_TURNS,
    seed: Seed = None,
    session_id: NewSessionId = None,
) -> Annotated[CallToolResult, SessionResult]:
    """Start a session that you or the host drive turn by turn; it opens with the case's opening exchange."""
    chosen = await _find_intake(ctx, intake_id, intake, attitude)
    wanted = SessionPlan(chosen, method, seed, max_turns, min_turns, session_id)
    return _show(await sessions.start_session(runtime_of(ctx).studio, wanted))


async def add_turn(
    ctx: Ctx,
    session_id: SessionId,
    role: Literal["counselor", "client"],
    text: str,
    techniques: Techniques = None,
    candidates: CandidatesArgument | None = None,
    ends_session: Annotated[bool, Field(description="The client ends the session with this turn")] = False,
) -> Annotated[CallToolResult, SessionResult]:
    """Add one turn, yours or a tool's, to a running session; counselor and client take turns."""
    studio = runtime_of(ctx).studio
    session = await studio.store.get_session(session_id)
    message = StoredMessage(
        position=len(session.dialogue),
        role=Role(role),
        text=" ".join(check_text(text).split()),
        techniques=tuple(techniques or ()),
        candidates=candidates.by_technique() if candidates else None,
    )
    grown = await sessions.add_turn(studio, session, message, has_end_marker=ends_session and role == "client")
    return _show(grown, with_dialogue=False)


async def get_session(
    ctx: Ctx,
    session_id: SessionId,
    wait_seconds: WaitSeconds = 0,
    trace: Annotated[bool, Field(description="Also show techniques and all candidates of every exchange")] = False,
) -> Annotated[CallToolResult, SessionResult]:
    """Show a session: status, plan, dialogue; with wait_seconds, wait for a session that is being generated to end."""
    jobs = runtime_of(ctx).jobs
    session = await (
        jobs.wait(session_id, wait_seconds) if wait_seconds else runtime_of(ctx).studio.store.get_session(session_id)
    )
    return _show(session, with_trace=trace)


async def list_sessions(
    ctx: Ctx,
    status: Annotated[Status | None, Field(description="Only these")] = None,
    method: Annotated[str | None, Field(description="Only this method")] = None,
    intake_id: Annotated[str | None, Field(description="Only this case")] = None,
    limit: Annotated[int, Field(ge=1, le=MAX_LIST)] = 50,
    after: Annotated[str, Field(description="The next_after of the page before")] = "",
) -> Annotated[CallToolResult, SessionListResult]:
    """List stored sessions with their status, oldest id first, a page at a time."""
    wanted = SessionFilter(status, method, intake_id, after, limit)
    found = await runtime_of(ctx).studio.store.list_sessions(wanted)
    shown = SessionListResult(sessions=found, next_after=found[-1].id if len(found) == limit else None)
    lines = [f"{s.id}: {s.status}, {s.exchanges} exchanges, {s.method}, {s.intake_id}" for s in found]
    return result(shown, "\n".join(lines) or "No sessions. start_session or generate_session makes one.")


async def cancel_session(ctx: Ctx, session_id: SessionId) -> Annotated[CallToolResult, SessionResult]:
    """Stop a running session and its model calls; what was written is kept."""
    return _show(await runtime_of(ctx).jobs.cancel(session_id), with_dialogue=False)


async def branch_session(
    ctx: Ctx,
    session_id: SessionId,
    after_exchanges: Annotated[
        int | None, Field(ge=0, description="Keep this many exchanges; without it, all of them")
    ] = None,
    attitude: MaybeAttitude = None,
) -> Annotated[CallToolResult, SessionResult]:
    """Copy a session up to an exchange, to go on otherwise: other techniques, another attitude; the original stays."""
    studio = runtime_of(ctx).studio
    session = await studio.store.get_session(session_id)
    return _show(await sessions.branch_session(studio, session, after_exchanges, attitude))


async def generate_session(
    ctx: Ctx,
    intake_id: IntakeId | None = None,
    intake: Annotated[dict[str, object] | None, Field(description="A case of your own, instead of intake_id")] = None,
    attitude: MaybeAttitude = None,
    method: MethodName = DEFAULT_METHOD,
    max_turns: MaxTurns = MAX_TURNS,
    min_turns: MinTurns = MIN_TURNS,
    seed: Seed = None,
    session_id: NewSessionId = None,
    wait_seconds: WaitSeconds = 0,
    redo: Annotated[bool, Field(description="Write a finished session again; unchanged calls are replayed")] = False,
) -> Annotated[CallToolResult, SessionResult]:
    """Generate a whole session in the background and return its session_id at once; get_session follows it."""
    chosen = await _find_intake(ctx, intake_id, intake, attitude)
    wanted = SessionPlan(chosen, method, seed, max_turns, min_turns, session_id)
    jobs = runtime_of(ctx).jobs
    session = await jobs.generate(wanted, redo=redo)
    if wait_seconds and session.status == "running":
        session = await jobs.wait(session.id, wait_seconds)
    return _show(session, with_dialogue=session.status == "finished" and wait_seconds > 0)


async def _find_intake(
    ctx: Ctx, intake_id: str | None, intake: dict[str, object] | None, attitude: Attitude | None
) -> Intake:
    if (intake_id is None) == (intake is None):
        raise SessionRequestError("give intake_id (list_intakes shows them) or intake, one of the two")
    studio = runtime_of(ctx).studio
    if intake_id is None:
        return sessions.with_attitude(parse_intake(intake, 1), attitude)
    return sessions.with_attitude(await studio.find_intake(intake_id), attitude)


def _show(session: SessionRecord, *, with_dialogue: bool = True, with_trace: bool = False) -> CallToolResult:
    shown = session_result(session, with_dialogue=with_dialogue, with_trace=with_trace)
    return result(shown, session_text(shown), [session_link(session.id)])
