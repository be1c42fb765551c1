"""What is open while a program runs, opened and closed by one lifespan."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from magnet.config import Settings
from magnet.llm.models import BackendFactory, open_models
from magnet.pipeline.generation import Jobs, open_jobs
from magnet.pipeline.studio import Studio
from magnet.prompts.loading import load_pack
from magnet.store.store import open_store


@dataclass(frozen=True, slots=True)
class Runtime:
    """The studio and the jobs that generate in it."""

    studio: Studio
    jobs: Jobs


@asynccontextmanager
async def open_runtime(
    settings: Settings, backend_factory: BackendFactory | None = None
) -> AsyncGenerator[Runtime, None]:
    """Open models, store and jobs.

    `backend_factory` replaces the configured endpoints, for tests and for embedding.

    Raises:
        PromptError: the prompt pack cannot be loaded.
        StoreError: the store's URL is not one of a database we know.
    """
    pack = load_pack(settings.prompts)
    async with open_models(settings, backend_factory) as models, open_store(settings.store) as store:
        studio = Studio(settings, pack, models, store)
        async with open_jobs(studio) as jobs:
            yield Runtime(studio, jobs)
