"""Resources: sessions, intakes and techniques by URI, and what this server is."""

import json

from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from magnet.agents import TECHNIQUE_TITLES, Technique
from magnet.errors import MagnetError
from magnet.notices import NOTICE
from magnet.pipeline.variants import METHODS, find_problem
from magnet_tools.registry import Ctx, Server, runtime_of

JSON = "application/json"


def register(server: Server) -> None:
    """Add the resources to the server."""
    _register_records(server)
    _register_guides(server)


def _register_records(server: Server) -> None:
    @server.resource("session://{session_id}", title="Session", mime_type=JSON)
    async def session(session_id: str, ctx: Ctx) -> str:  # pyright: ignore[reportUnusedFunction] registered above
        """The whole record of a session: one line of sessions.jsonl."""
        try:
            record = await runtime_of(ctx).studio.store.get_session(session_id)
        except MagnetError as error:
            raise ResourceNotFoundError(str(error)) from error
        return record.model_dump_json()

    @server.resource("intake://{intake_id}", title="Intake", mime_type=JSON)
    async def intake(intake_id: str, ctx: Ctx) -> str:  # pyright: ignore[reportUnusedFunction] registered above
        """A case: intake form, attitude, opening exchange."""
        try:
            return (await runtime_of(ctx).studio.find_intake(intake_id)).model_dump_json()
        except MagnetError as error:
            raise ResourceNotFoundError(str(error)) from error


def _register_guides(server: Server) -> None:
    @server.resource("technique://{name}", title="Technique", mime_type="text/markdown")
    async def technique(name: str, ctx: Ctx) -> str:  # pyright: ignore[reportUnusedFunction] registered above
        """One of the five techniques: the instruction its specialist works from."""
        if name not in set(Technique):
            raise ResourceNotFoundError(f"no technique {name!r}; the five are {', '.join(Technique)}")
        prompt = runtime_of(ctx).studio.pack.get(name)
        parts = "\n\n".join(template for _, template in prompt.templates)
        return f"# {TECHNIQUE_TITLES[Technique(name)]}\n\n{parts}\n"

    # A template with one name, since the SDK gives the running server only to templates.
    @server.resource("about://{name}", title="About this server", mime_type=JSON)
    async def about(name: str, ctx: Ctx) -> str:  # pyright: ignore[reportUnusedFunction] registered above
        """`about://server`: version, engine, models, prompt pack and methods that a session begun now is made with."""
        if name != "server":
            raise ResourceNotFoundError(f"nothing about {name!r}; read about://server")
        studio = runtime_of(ctx).studio
        made_with = studio.provenance(None).model_dump(mode="json", exclude={"seed", "created_at", "finished_at"})
        methods = {method.name: method.summary for method in METHODS.values()}
        unusable = {method.name: reason for method in METHODS.values() if (reason := find_problem(method, studio.pack))}
        return json.dumps(
            {"engine": studio.settings.engine, **made_with, "methods": methods, "unusable": unusable, "notice": NOTICE}
        )
