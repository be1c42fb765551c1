"""The agents as tools: five specialists, planner, technique selector, composer, client, and the whole counselor turn."""

from typing import Annotated

from mcp.types import CallToolResult
from pydantic import Field

from magnet.agents import Technique
from magnet.dialogue import Role
from magnet.errors import SessionRequestError
from magnet.pipeline.session import plan_session as plan_stored_session
from magnet.pipeline.session import write_message
from magnet.pipeline.sessions import add_turn, check_running, client_flags
from magnet.pipeline.studio import Studio
from magnet.pipeline.turn import (
    CounselorTurn,
    Scene,
    compose,
    make_plan,
    suggest,
    write_client_turn,
    write_counselor_turn,
)
from magnet.pipeline.turn import select_techniques as choose_techniques
from magnet.pipeline.variants import DEFAULT_METHOD, Method, check_method, get_method
from magnet.records import PlanRecord
from magnet_tools.arguments import (
    CandidatesArgument,
    ClientArgument,
    MaybeClient,
    MaybeDialogue,
    MaybeSessionId,
    Source,
    Take,
    Techniques,
    UtteranceArgument,
    check_turn_of,
    find_source,
    plan_argument,
)
from magnet_tools.registry import (
    ASKS_MODEL,
    GENERATES,
    WRITES_ONCE,
    Ctx,
    Server,
    add_tool,
    result,
    runtime_of,
    session_link,
)
from magnet_tools.results import (
    CandidateResult,
    CounselorTurnResult,
    PlanResult,
    SelectionResult,
    UtteranceResult,
    flagged,
)


def register(server: Server) -> None:
    """Add the agents' tools to the server."""
    add_tool(server, reflect, "Reflect", ASKS_MODEL)
    add_tool(server, question, "Question", ASKS_MODEL)
    add_tool(server, suggest_solution, "Suggest a solution", ASKS_MODEL)
    add_tool(server, normalize, "Normalize", ASKS_MODEL)
    add_tool(server, psychoeducate, "Psycho-educate", ASKS_MODEL)
    add_tool(server, plan_session, "Plan the session", WRITES_ONCE)
    add_tool(server, select_techniques, "Select techniques", ASKS_MODEL)
    add_tool(server, compose_response, "Compose the counselor's turn", ASKS_MODEL)
    add_tool(server, simulate_client, "Simulate the client", ASKS_MODEL)
    add_tool(server, counselor_turn, "Write a whole counselor turn", GENERATES)


async def reflect(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as a reflection: give back the client's content, feeling and meaning."""
    return await _suggest(ctx, Technique.REFLECTION, await _source(ctx, session_id, dialogue, client, take))


async def question(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as an open question that explores feelings, events or another view."""
    return await _suggest(ctx, Technique.QUESTIONING, await _source(ctx, session_id, dialogue, client, take))


async def suggest_solution(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as solution provision: one small, concrete step found with the client."""
    return await _suggest(ctx, Technique.SOLUTION, await _source(ctx, session_id, dialogue, client, take))


async def normalize(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as normalization: the reaction is understandable, without making it small."""
    return await _suggest(ctx, Technique.NORMALIZATION, await _source(ctx, session_id, dialogue, client, take))


async def psychoeducate(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as psycho-education: a short explanation tied to the client's own example."""
    return await _suggest(ctx, Technique.PSYCHOEDUCATION, await _source(ctx, session_id, dialogue, client, take))


async def _source(
    ctx: Ctx,
    session_id: str | None,
    dialogue: list[UtteranceArgument] | None,
    client: ClientArgument | None,
    take: int,
) -> Source:
    return await find_source(runtime_of(ctx).studio, session_id, dialogue, client, take)


async def _suggest(ctx: Ctx, technique: Technique, source: Source) -> CallToolResult:
    check_turn_of(source, Role.COUNSELOR)
    answer = await suggest(source.team, technique, source.scene.case, source.scene.dialogue, source.place)
    engine = _engine(ctx)
    shown = CandidateResult(
        technique=technique,
        text=answer.value,
        flags=list(answer.flags),
        engine=engine,
        session_id=source.session.id if source.session else None,
    )
    return result(shown, flagged(answer.value, answer.flags, engine))


async def plan_session(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, PlanResult]:
    """Make the CBT plan of a session, once, at its opening; a session's plan is kept with it and returned from then on."""
    source = await _source(ctx, session_id, dialogue, client, take)
    if source.session is not None and source.session.plan is not None and take == 1:
        plan = source.session.plan
    else:
        plan = await _make_plan(runtime_of(ctx).studio, source)
    engine = _engine(ctx)
    shown = PlanResult(
        technique=plan.technique, plan=plan.text, flags=list(plan.flags), engine=engine, session_id=session_id
    )
    text = f"CBT technique: {plan.technique or 'none named'}\nCounseling plan:\n{plan.text}"
    return result(shown, flagged(text, plan.flags, engine))


async def _make_plan(studio: Studio, source: Source) -> PlanRecord:
    session = source.session
    method = get_method(session.method if session else DEFAULT_METHOD)
    if method.planner is None:
        raise SessionRequestError(f"the method {method.name!r} has no plan; compose the turn without one")
    answer = await make_plan(source.team, method.planner, source.scene.case, source.place)
    plan = PlanRecord(technique=answer.value.technique, text=answer.value.text, flags=answer.flags)
    if session:
        await studio.store.set_plan(session.id, plan)
    return plan


async def select_techniques(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    plan: Annotated[str | None, Field(description="The CBT plan; only with `dialogue`")] = None,
    take: Take = 1,
) -> Annotated[CallToolResult, SelectionResult]:
    """Choose which of the five techniques the next counselor turn should use, from the plan and the dialogue."""
    source = await _source(ctx, session_id, dialogue, None, take)
    check_turn_of(source, Role.COUNSELOR)
    scene = source.scene if source.session else Scene(source.scene.case, plan_argument(plan), source.scene.dialogue)
    if source.session:
        prompt = get_method(source.session.method).selector
        if prompt is None:
            raise SessionRequestError(f"the method {source.session.method!r} selects no techniques")
    else:
        prompt = "technique_selector" if scene.plan else "technique_selector_no_cbt"
    if prompt == "technique_selector" and scene.plan is None:
        raise SessionRequestError("the technique selector reads the plan: call plan_session first")
    answer = await choose_techniques(source.team, prompt, scene.plan, scene.dialogue, source.place)
    engine = _engine(ctx)
    shown = SelectionResult(
        techniques=list(answer.value), flags=list(answer.flags), engine=engine, session_id=session_id
    )
    return result(shown, flagged(", ".join(t.title for t in answer.value), answer.flags, engine))


async def compose_response(
    ctx: Ctx,
    candidates: CandidatesArgument,
    techniques: Techniques = None,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    plan: Annotated[str | None, Field(description="The CBT plan; only with `dialogue`")] = None,
    take: Take = 1,
) -> Annotated[CallToolResult, UtteranceResult]:
    """Weave the specialists' candidates for the chosen techniques into one counselor turn; add_turn then keeps it."""
    source = await _source(ctx, session_id, dialogue, None, take)
    check_turn_of(source, Role.COUNSELOR)
    scene = source.scene if source.session else Scene(source.scene.case, plan_argument(plan), source.scene.dialogue)
    chosen = tuple(techniques or ())
    given = candidates.by_technique()
    if missing := [technique.value for technique in chosen if technique not in given]:
        raise SessionRequestError(f"candidates has no text for the chosen {missing[0]!r}: ask that specialist first")
    if not given:
        raise SessionRequestError("candidates is empty: ask the specialists first (reflect, question, …)")
    method = _composing_method(source, scene, chosen)
    check_method(method, runtime_of(ctx).studio.pack)
    # The prompt shows all five; one that was not asked for is shown as such rather than left out.
    shown = {technique: given.get(technique, "(none)") for technique in Technique}
    answer = await compose(source.team, method, scene.values, CounselorTurn("", chosen, shown), source.place)
    engine = _engine(ctx)
    structured = UtteranceResult(
        role="counselor", text=answer.value, flags=list(answer.flags), engine=engine, session_id=session_id
    )
    return result(structured, flagged(answer.value, answer.flags, engine))


def _composing_method(source: Source, scene: Scene, chosen: tuple[Technique, ...]) -> Method:
    """Return the method whose composer fits what there is: the session's, or the one that needs no more than this."""
    if source.session is None:
        with_plan = "magnet-no-technique" if scene.plan else "magnet-no-cbt-no-technique"
        return get_method("magnet" if chosen else with_plan)
    method = get_method(source.session.method)
    if not method.has_specialists:
        raise SessionRequestError(f"the method {method.name!r} has no composer; counselor_turn writes its turns")
    if method.selector and not chosen:
        raise SessionRequestError("techniques is missing: select_techniques chooses them")
    return method


async def simulate_client(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, UtteranceResult]:
    """Write the simulated client's next turn, in the case's attitude; add_turn then keeps it."""
    source = await _source(ctx, session_id, dialogue, client, take)
    check_turn_of(source, Role.CLIENT)
    answer = await write_client_turn(source.team, source.scene.case, source.scene.dialogue, source.place)
    flags = client_flags(source.session, answer.value, answer.flags) if source.session else answer.flags
    engine = _engine(ctx)
    shown = UtteranceResult(
        role="client",
        text=answer.value.text,
        flags=list(flags),
        engine=engine,
        session_id=session_id,
        ends_session=answer.value.has_end_marker,
    )
    return result(shown, flagged(answer.value.text, flags, engine))


async def counselor_turn(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    techniques: Techniques = None,
    add: Annotated[bool, Field(description="Whether to add the turn to the session")] = True,
    take: Take = 1,
) -> Annotated[CallToolResult, CounselorTurnResult]:
    """Write the whole next counselor turn, specialists, selection and composition, and show the trace; it is added to the session."""
    source = await _source(ctx, session_id, dialogue, client, take)
    check_turn_of(source, Role.COUNSELOR)
    forced = tuple(techniques or ())
    turn = (
        await _turn_of_session(runtime_of(ctx).studio, source, forced, take, add=add)
        if source.session
        else await _turn_of_dialogue(runtime_of(ctx).studio, source, forced)
    )
    engine = _engine(ctx)
    shown = CounselorTurnResult(
        text=turn.text,
        techniques=list(turn.techniques),
        candidates=dict(turn.candidates),
        flags=list(turn.flags),
        engine=engine,
        session_id=session_id,
        is_added=add and source.session is not None,
    )
    trace = "\n".join(f"- {technique.title}: {text}" for technique, text in turn.candidates.items())
    chosen = ", ".join(technique.title for technique in turn.techniques)
    text = f"{turn.text}\n\nTechniques: {chosen or 'none selected'}" + (f"\nCandidates:\n{trace}" if trace else "")
    links = [session_link(session_id)] if session_id else []
    return result(shown, flagged(text, turn.flags, engine), links)


async def _turn_of_session(
    studio: Studio, source: Source, forced: tuple[Technique, ...], take: int, *, add: bool
) -> CounselorTurn:
    assert source.session is not None
    if add:
        check_running(source.session)
    session = await plan_stored_session(studio, source.session, source.team)
    message, _ = await write_message(studio, session, source.team, take, forced)
    if add:
        await add_turn(studio, session, message, has_end_marker=False)
    return CounselorTurn(message.text, message.techniques, message.candidates or {}, message.flags)


async def _turn_of_dialogue(studio: Studio, source: Source, forced: tuple[Technique, ...]) -> CounselorTurn:
    method = get_method(DEFAULT_METHOD)
    check_method(method, studio.pack)
    assert method.planner is not None
    plan = await make_plan(source.team, method.planner, source.scene.case, source.place)
    scene = Scene(source.scene.case, plan.value, source.scene.dialogue)
    return await write_counselor_turn(source.team, method, scene, source.place, forced)


def _engine(ctx: Ctx) -> str:
    return runtime_of(ctx).studio.settings.engine
