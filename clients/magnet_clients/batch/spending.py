"""What sessions come to: exchanges, model calls, tokens and cost, to be added up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spending:
    """What some sessions came to; the cost is None where no price is configured for a part of it."""

    exchanges: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0

    @property
    def uncached_prompt_tokens(self) -> int:
        """The prompt tokens that the endpoints computed anew."""
        return self.prompt_tokens - self.cached_prompt_tokens

    def __add__(self, other: "Spending") -> "Spending":
        """Return both together."""
        return self._combine(other, 1)

    def __sub__(self, other: "Spending") -> "Spending":
        """Return what this has more than the other."""
        return self._combine(other, -1)

    def _combine(self, other: "Spending", sign: int) -> "Spending":
        is_priced = self.cost_usd is not None and other.cost_usd is not None
        return Spending(
            self.exchanges + sign * other.exchanges,
            self.calls + sign * other.calls,
            self.prompt_tokens + sign * other.prompt_tokens,
            self.cached_prompt_tokens + sign * other.cached_prompt_tokens,
            self.completion_tokens + sign * other.completion_tokens,
            (self.cost_usd or 0) + sign * (other.cost_usd or 0) if is_priced else None,
        )
