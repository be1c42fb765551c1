"""Fixtures for every test."""

from pathlib import Path

import pytest

from magnet.config import Settings, load_settings


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the engine is built on."""
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings as a machine without any configuration gives them, with the store in the test's own folder."""
    return load_settings({}, directory=tmp_path, store=f"sqlite:///{tmp_path / 'magnet.db'}")
