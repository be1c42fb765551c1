"""The brief of a whole counselor turn: selector, specialists and composer in one, for a host that writes them all."""

from magnet.agents import Technique
from magnet.errors import MagnetError
from magnet.llm import Request
from magnet.llm.host import HostModel
from magnet.pipeline.turn import CounselorTurn, compose
from magnet.pipeline.variants import DEFAULT_METHOD, Method, get_method
from magnet_tools.arguments import Source
from magnet_tools.briefs import Brief, make_brief


async def brief_turn(source: Source, asked: list[Request], forced: tuple[Technique, ...]) -> Brief:
    """Return what a host writes for the next counselor turn; `asked` are the requests that wait for its answer."""
    session_id = source.session.id if source.session else None
    if [request.agent for request in asked] == ["planner"]:
        return make_brief(asked, _then_plan(session_id))
    method = get_method(source.session.method if source.session else DEFAULT_METHOD)
    # They are asked together, in no order of their own.
    order = [agent.name for agent, _ in method.steps()]
    asked = sorted(asked, key=lambda request: order.index(request.agent))
    if not method.has_specialists:
        return make_brief(asked, _then_add(session_id, "your text as text"))
    composing = await _composer_request(source, method, forced)
    chosen = _chosen(asked, forced) if method.selector else ""
    kept = f"the composed turn as text, the five candidates as candidates{chosen}"
    return make_brief([*asked, *composing], _then_add(session_id, kept))


async def _composer_request(source: Source, method: Method, forced: tuple[Technique, ...]) -> list[Request]:
    """Return what the composer would be asked, with the host's own candidates named where they will stand."""
    host = HostModel()
    candidates = {technique: f"(your {technique.title} candidate)" for technique in Technique}
    values = {**source.scene.values, "techniques": "(the techniques you chose)"}
    try:
        await compose(source.team.with_host(host), method, values, CounselorTurn("", forced, candidates), source.place)
    except MagnetError:
        # It always waits, unless the counselor's model is configured, which then composes: compose_response asks it.
        return host.asked
    return host.asked


def _chosen(asked: list[Request], forced: tuple[Technique, ...]) -> str:
    if forced:
        return f" and {[technique.value for technique in forced]} as techniques"
    if any(request.agent == "technique_selector" for request in asked):
        return " and the names you chose as techniques"
    return " and what select_techniques chooses as techniques"


def _then_plan(session_id: str | None) -> str:
    if session_id is None:
        return "call counselor_turn again with all of your answer as plan."
    return (
        f"call plan_session with session_id {session_id} and all of your answer as plan, which the session keeps; "
        "then counselor_turn again."
    )


def _then_add(session_id: str | None, what: str) -> str:
    if session_id is None:
        return (
            "the composed turn is the counselor's next; start_session keeps a dialogue for you, if you want one kept."
        )
    return f"call add_turn with session_id {session_id}, role counselor, {what}."
