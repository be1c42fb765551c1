"""What is open while a program runs, opened and closed by one lifespan."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from magnet.config import Settings
from magnet.evaluation.comparison_jobs import Comparisons, open_comparisons
from magnet.evaluation.jobs import Evaluations, open_evaluations
from magnet.llm.models import BackendFactory, open_models
from magnet.pipeline.generation import Jobs, open_jobs
from magnet.pipeline.studio import Studio
from magnet.prompts.loading import load_pack
from magnet.store.store import open_store


@dataclass(frozen=True, slots=True)
class Runtime:
    """The studio, the jobs that generate in it, and the evaluations and comparisons of what they wrote."""

    studio: Studio
    jobs: Jobs
    evaluations: Evaluations
    comparisons: Comparisons


@asynccontextmanager
async def open_runtime(
    settings: Settings, backend_factory: BackendFactory | None = None
) -> AsyncGenerator[Runtime, None]:
    """Open models, store, jobs and evaluations.

    `backend_factory` replaces the configured endpoints, for tests and for embedding.

    Raises:
        PromptError: the prompt pack cannot be loaded.
        StoreError: the store's URL is not one of a database we know.
    """
    pack = load_pack(settings.prompts)
    if backend_factory:
        # What it opens writes for every role, so nothing is left to a host.
        settings = settings.rehearsed()
    async with open_models(settings, backend_factory) as models, open_store(settings.store) as store:
        studio = Studio(settings, pack, models, store)
        async with (
            open_jobs(studio) as jobs,
            open_evaluations(studio) as evaluations,
            open_comparisons(studio) as comparisons,
        ):
            yield Runtime(studio, jobs, evaluations, comparisons)
