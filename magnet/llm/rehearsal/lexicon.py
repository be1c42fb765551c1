"""The data files of the rehearsal engine, each read once."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import cast

_FOLDER = Path(__file__).with_name("phrases")


@cache
def read(file: str) -> Mapping[str, object]:
    """Return one data file as it stands, e.g. read("reflection")."""
    return tomllib.loads((_FOLDER / f"{file}.toml").read_text(encoding="utf-8"))


@cache
def lexicon(name: str) -> frozenset[str]:
    """Return a list of words by name."""
    return frozenset(cast(str, read("lexicon")[name]).split())
