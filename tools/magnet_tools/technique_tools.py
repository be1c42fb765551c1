"""The agents that prepare a counselor turn, as tools: five specialists, planner, technique selector."""

from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult

from magnet.agents import Technique
from magnet.dialogue import Role
from magnet.errors import SessionRequestError
from magnet.pipeline.sessions import check_running
from magnet.pipeline.studio import Studio
from magnet.pipeline.turn import make_plan, suggest
from magnet.pipeline.turn import select_techniques as choose_techniques
from magnet.pipeline.variants import DEFAULT_METHOD, get_method
from magnet.records import PlanRecord
from magnet_tools.arguments import (
    MaybeClient,
    MaybeDialogue,
    MaybePlan,
    MaybeSessionId,
    Source,
    Take,
    check_turn_of,
    find_source,
)
from magnet_tools.registry import ASKS_MODEL, WRITES_ONCE, Ctx, engine_of, make_tool, result, runtime_of
from magnet_tools.results import CandidateResult, PlanResult, SelectionResult, flagged


def build_tools() -> list[Tool]:
    """Return the tools of the agents that prepare a counselor turn."""
    return [
        make_tool(reflect, "Reflect", ASKS_MODEL),
        make_tool(question, "Question", ASKS_MODEL),
        make_tool(suggest_solution, "Suggest a solution", ASKS_MODEL),
        make_tool(normalize, "Normalize", ASKS_MODEL),
        make_tool(psychoeducate, "Psycho-educate", ASKS_MODEL),
        make_tool(plan_session, "Plan the session", WRITES_ONCE),
        make_tool(select_techniques, "Select techniques", ASKS_MODEL),
    ]


async def reflect(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as a reflection: give back the client's content, feeling and meaning."""
    return await _suggest(ctx, Technique.REFLECTION, await find_source(ctx, session_id, dialogue, take, client))


async def question(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as an open question that explores feelings, events or another view."""
    return await _suggest(ctx, Technique.QUESTIONING, await find_source(ctx, session_id, dialogue, take, client))


async def suggest_solution(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as solution provision: one small, concrete step found with the client."""
    return await _suggest(ctx, Technique.SOLUTION, await find_source(ctx, session_id, dialogue, take, client))


async def normalize(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as normalization: the reaction is understandable, without making it small."""
    return await _suggest(ctx, Technique.NORMALIZATION, await find_source(ctx, session_id, dialogue, take, client))


async def psychoeducate(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    client: MaybeClient = None,
    take: Take = 1,
) -> Annotated[CallToolResult, CandidateResult]:
    """Suggest the next counselor turn as psycho-education: a short explanation tied to the client's own example."""
    return await _suggest(ctx, Technique.PSYCHOEDUCATION, await find_source(ctx, session_id, dialogue, take, client))


async def _suggest(ctx: Ctx, technique: Technique, source: Source) -> CallToolResult:
    check_turn_of(source, Role.COUNSELOR)
    answer = await suggest(source.team, technique, source.scene.case, source.scene.dialogue, source.place)
    engine = engine_of(ctx)
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
    """Make the CBT plan of a session, once, at its opening; the session keeps it and gives it from then on."""
    source = await find_source(ctx, session_id, dialogue, take, client)
    if source.session is not None and source.session.plan is not None and take == 1:
        plan = source.session.plan
    else:
        plan = await _make_plan(runtime_of(ctx).studio, source)
    engine = engine_of(ctx)
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
    if session:
        check_running(session)
    answer = await make_plan(source.team, method.planner, source.scene.case, source.place)
    plan = PlanRecord(technique=answer.value.technique, text=answer.value.text, flags=answer.flags)
    if session:
        await studio.store.set_plan(session.id, plan)
    return plan


async def select_techniques(
    ctx: Ctx,
    session_id: MaybeSessionId = None,
    dialogue: MaybeDialogue = None,
    plan: MaybePlan = None,
    take: Take = 1,
) -> Annotated[CallToolResult, SelectionResult]:
    """Choose which of the five techniques the next counselor turn should use, from the plan and the dialogue."""
    source = await find_source(ctx, session_id, dialogue, take, plan=plan)
    check_turn_of(source, Role.COUNSELOR)
    scene = source.scene
    if source.session:
        prompt = get_method(source.session.method).selector
        if prompt is None:
            raise SessionRequestError(f"the method {source.session.method!r} selects no techniques")
    else:
        prompt = "technique_selector" if scene.plan else "technique_selector_no_cbt"
    if prompt == "technique_selector" and scene.plan is None:
        raise SessionRequestError("the technique selector reads the plan: call plan_session first")
    answer = await choose_techniques(source.team, prompt, scene.plan, scene.dialogue, source.place)
    engine = engine_of(ctx)
    shown = SelectionResult(
        techniques=list(answer.value), flags=list(answer.flags), engine=engine, session_id=session_id
    )
    return result(shown, flagged(", ".join(t.title for t in answer.value), answer.flags, engine))
