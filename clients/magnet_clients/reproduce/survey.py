"""What a recipe meets: asked of a magnet-server before anything is written, so that a slip costs no night of calls."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from mcp import Client
from pydantic import BaseModel

from magnet_clients.batch.cases import check_cases, check_readable
from magnet_clients.batch.run import About
from magnet_clients.connect import call_tool, read_resource, start_server
from magnet_clients.errors import UsageError
from magnet_clients.reproduce.config import Recipe, suggest

REHEARSAL = "rehearsal"
"""The engine that writes offline and judges nothing."""


class ScaleCalls(BaseModel):
    """The part of a scale that says how many calls it takes."""

    name: str
    ask: str
    before: str | None
    items: list[object]

    @property
    def per_stage(self) -> int:
        """Calls for one session, at one stage, where the endpoint gives all samples in one answer."""
        return len(self.items) if self.ask == "each" else 1


@dataclass(frozen=True, slots=True)
class Survey:
    """What the steps depend on and the recipe does not say."""

    engine: str
    judge: str
    sessions: int
    scales: tuple[ScaleCalls, ...]
    notice: str

    @property
    def can_judge(self) -> bool:
        """Whether a language model is configured to judge."""
        return self.judge != REHEARSAL


async def make_survey(recipe: Recipe, environ: Mapping[str, str]) -> Survey:
    """Return what a server with these settings would do with the recipe; nothing is kept of it.

    Raises:
        UsageError: a setting, a method, a scale, the prompts or the intakes cannot be used, or an extra is missing.
        ServerLostError: the server did not start.
    """
    check_readable(recipe.intakes)
    for package in ("numpy", "scipy"):
        if find_spec(package) is None:
            raise UsageError(f"the report needs {package}, which is not installed: pip install 'magnet-server[stats]'")
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'survey.db'}"
        async with start_server(["--store", store], {**environ, **recipe.judges_environ}) as client:
            return await _ask(client, recipe)


async def _ask(client: Client, recipe: Recipe) -> Survey:
    about = About.model_validate(json.loads(await read_resource(client, "about://server")))
    for method in recipe.methods:
        if method not in about.methods:
            raise UsageError(f"unknown method {method!r}: {suggest(method, about.methods)}")
        if reason := about.unusable.get(method):
            raise UsageError(reason)
    listed = cast(list[dict[str, object]], (await call_tool(client, "list_scales", {}))["scales"])
    known = [str(scale["name"]) for scale in listed]
    for scale in recipe.scales:
        if scale not in known:
            raise UsageError(f"unknown scale {scale!r}: {suggest(scale, known)}")
    cases = await check_cases(client, recipe.intakes)
    return Survey(
        engine=about.engine,
        judge=str(about.models.get("judge", {}).get("model") or ""),
        sessions=len(cases[: recipe.limit]),
        scales=tuple(
            [ScaleCalls.model_validate_json(await read_resource(client, f"scale://{name}")) for name in recipe.scales]
        ),
        notice=about.notice,
    )
