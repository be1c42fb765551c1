"""Prompt layouts: which agents share one prompt, so that an engine with a prefix cache computes most of it once.

Another layout is one more row here and the prompt files it names.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from magnet.agents import Technique
from magnet.prompts import Pack, Prompt

PromptLayout: TypeAlias = Literal["default", "shared"]


@dataclass(frozen=True, slots=True)
class SharedPrompt:
    """The prompt that an agent shares with others, and the values that tell it apart from them."""

    prompt: str
    values: Mapping[str, str]


LAYOUTS: Mapping[PromptLayout, Mapping[str, SharedPrompt]] = {
    "default": {},
    "shared": {technique.value: SharedPrompt("specialist", {"technique": technique.title}) for technique in Technique},
}
"""Layout → name of a prompt that it replaces → what it puts there."""

SHARED_PROMPTS = frozenset(shared.prompt for layout in LAYOUTS.values() for shared in layout.values())
"""The prompts that only layouts use."""


def lay_out(pack: Pack, layout: PromptLayout) -> Pack:
    """Return the pack as a layout arranges it; where it lacks a shared prompt, those who share it have none.

    Raises:
        PromptError: a shared prompt has no place for what tells those who share it apart.
    """
    rows = LAYOUTS[layout]
    if not rows:
        return pack
    laid_out = {name: _place(pack, name, shared) for name, shared in rows.items() if shared.prompt in pack.prompts}
    left = {name: prompt for name, prompt in pack.prompts.items() if name not in rows or name in laid_out}
    wordings = {name: prompt.templates for name, prompt in laid_out.items()}
    decides = json.dumps([pack.fingerprint, layout, wordings])
    where = {name: pack.expected.get(shared.prompt, f"{shared.prompt}.md") for name, shared in rows.items()}
    return Pack(
        name=f"{pack.name} (layout {layout})",
        prompts=left | laid_out,
        attitudes=pack.attitudes,
        fingerprint=hashlib.sha256(decides.encode()).hexdigest()[:16],
        expected={**pack.expected, **where},
    )


def _place(pack: Pack, name: str, shared: SharedPrompt) -> Prompt:
    return pack.prompts[shared.prompt].with_values(name, shared.values)
