"""What the simulated server computes: tokens, the prefix cache, service time and the text of an answer.

Tokens are approximate and deterministic: a run of up to five letters or digits is one, and so is every other mark.
"""

import random
import re
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from simulated_phrases import CLIENT, COUNSELOR, PLANS, TECHNIQUES

BLOCK_TOKENS = 16
_TOKEN = re.compile(r"\w{1,5}|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the server is; a rate of zero takes no time at all."""

    first_token_s: float = 0.0
    prompt_tokens_per_s: float = 0.0
    output_tokens_per_s: float = 0.0

    def seconds(self, uncached_tokens: int, output_tokens: int) -> float:
        """Return the service time of one request."""
        prompt_s = uncached_tokens / self.prompt_tokens_per_s if self.prompt_tokens_per_s else 0.0
        output_s = output_tokens / self.output_tokens_per_s if self.output_tokens_per_s else 0.0
        return self.first_token_s + prompt_s + output_s


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer with its token counts."""

    text: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


class PrefixCache:
    """Blocks of sixteen tokens, each known by all tokens up to its end; the longest unused go first.

    A block counts as cached from the moment its request is scheduled, and a prompt's last token is always computed.
    """

    def __init__(self, capacity: int) -> None:
        """Hold so many blocks; zero caches nothing."""
        self._capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def clear(self) -> None:
        """Forget every block."""
        self._blocks.clear()

    def look_up(self, tokens: Sequence[str]) -> int:
        """Return how many of the first tokens were cached, and cache every full block of them."""
        if not self._capacity:
            return 0
        blocks, chained, cached, hits = self._blocks, 0, 0, True
        for start in range(0, len(tokens) - BLOCK_TOKENS, BLOCK_TOKENS):
            chained = hash((chained, tokens[start : start + BLOCK_TOKENS]))
            if chained in blocks:
                blocks.move_to_end(chained)
                cached += BLOCK_TOKENS if hits else 0
            else:
                hits = False
                blocks[chained] = None
        while len(blocks) > self._capacity:
            blocks.popitem(last=False)
        return cached


class SimulatedModel:
    """Answers as the agents should, from a seed: one request content has one answer."""

    def __init__(self, seed: int, cache_blocks: int) -> None:
        """Answer from this seed, with an empty prefix cache."""
        self._seed = seed
        self.cache = PrefixCache(cache_blocks)

    def answer(self, messages: Sequence[tuple[str, str]], sampling_seed: object) -> Reply:
        """Return the answer to a chat of (role, text) pairs."""
        # A role opens each message with a token of its own, as chat templates do.
        tokens = tuple(token for role, text in messages for token in (role, *_cut(text)))
        cached = self.cache.look_up(tokens)
        system, last = messages[0][1], messages[-1][1]
        draw = random.Random(zlib.crc32(f"{self._seed}/{sampling_seed}/{system[:200]}/{last}".encode()))
        text = _write(system, draw)
        return Reply(text, len(tokens), cached, len(_cut(text)))


@lru_cache(maxsize=4096)
def _cut(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(text))


def _write(system: str, draw: random.Random) -> str:
    """Return what the agent with this system prompt would say."""
    if "CBT technique:" in system:
        return draw.choice(PLANS)
    if "technique names only" in system:
        return ", ".join(draw.sample(TECHNIQUES, draw.choice((1, 2, 2, 3))))
    lines = CLIENT if "play the client" in system else COUNSELOR
    return " ".join(draw.sample(lines, draw.choice((2, 3))))
