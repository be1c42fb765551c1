"""One endpoint's state: how many calls at once it takes now, until when it wants quiet, and whether it is up.

All times are the event loop's clock, in seconds.
"""

from dataclasses import dataclass, field

from magnet.errors import EndpointFaultError, ModelError, RateLimitedError
from magnet.llm import Backend, Request

FIRST_LEVEL = 20
BACK_OFF = 0.8
COOL_DOWN_S = 15.0
LONGEST_QUIET_S = 120.0
FAULTS_IN_A_ROW = 6
FIRST_PROBE_S = 1.0
LONGEST_PROBE_S = 60.0
_GROWTH = 0.05


@dataclass(slots=True)
class Endpoint:
    """One endpoint; `ceiling` is the most calls at once, `name` its address as messages may show it."""

    name: str
    backend: Backend
    ceiling: int
    level: int = 0
    under_way: int = 0
    has_answered: bool = False
    down_since: float | None = None
    last_error: ModelError | None = None
    _is_finding_level: bool = True
    _clean: int = 0
    _cool_until: float = 0.0
    _quiet_until: float = 0.0
    _probe_at: float = 0.0
    _probe_wait_s: float = FIRST_PROBE_S
    _failed: list[Request] = field(default_factory=list[Request])

    def __post_init__(self) -> None:
        """Begin at a number that any endpoint takes."""
        self.level = min(FIRST_LEVEL, self.ceiling)

    def is_ready(self, now: float) -> bool:
        """Tell whether a call may start now; to an endpoint that is down, one at a time as a probe."""
        if now < self._quiet_until:
            return False
        if self.down_since is not None:
            return now >= self._probe_at and self.under_way == 0
        return self.under_way < self.level

    def is_healthy(self, now: float) -> bool:
        """Tell whether it is up and has not asked for quiet."""
        return self.down_since is None and now >= self._quiet_until

    def ready_at(self) -> float:
        """Return when its quiet or its wait for the next probe ends; the past where it waits for neither."""
        return max(self._quiet_until, self._probe_at if self.down_since is not None else 0.0)

    def note_answer(self) -> float | None:
        """Take an answer: grow, and return since when it had been down where it had."""
        since, self.down_since = self.down_since, None
        self.has_answered = True
        self._failed.clear()
        self._probe_wait_s = FIRST_PROBE_S
        return since

    def grow(self, now: float) -> None:
        """Grow after an answer: by one for each until the first 429, then by a twentieth for each clean round."""
        if self._is_finding_level:
            self.level = min(self.ceiling, self.level + 1)
            return
        self._clean += 1
        if now >= self._cool_until and self._clean >= self.level:
            self._clean = 0
            self.level = min(self.ceiling, self.level + max(1, int(self.level * _GROWTH)))

    def note_quiet(self, error: ModelError, now: float) -> None:
        """Keep quiet as long as the error asks, whatever it is about."""
        if error.retry_after_s:
            self._quiet_until = max(self._quiet_until, now + min(error.retry_after_s, LONGEST_QUIET_S))

    def note_rate_limit(self, error: RateLimitedError, now: float) -> None:
        """Back off once for all the 429s of an episode, which lasts for the cool-down or as long as one asks."""
        # A 429 is an answer: whatever sends it is up.
        self.note_answer()
        self._is_finding_level = False
        self._clean = 0
        if now >= self._cool_until:
            in_use = min(self.level, self.under_way)
            self.level = max(1, int(in_use * BACK_OFF))
            self._cool_until = now + max(COOL_DOWN_S, min(error.retry_after_s or 0.0, LONGEST_QUIET_S))

    def note_fault(self, error: ModelError, request: Request, now: float, *, may_pause: bool) -> bool:
        """Take a fault, which only pauses growth, until too many in a row say that it is down; tell whether this did.

        A request that makes the server fail each time it is tried again counts once.
        """
        self._clean = 0
        self.last_error = error
        if self.down_since is not None:
            # Calls that were under way when it went down fail after it, and are no probes.
            if now >= self._probe_at:
                self._probe_wait_s = min(self._probe_wait_s * 2, LONGEST_PROBE_S)
                self._probe_at = now + self._probe_wait_s
            return False
        is_same = isinstance(error, EndpointFaultError) and any(request is other for other in self._failed)
        if not is_same:
            self._failed.append(request)
        if not may_pause or len(self._failed) < FAULTS_IN_A_ROW:
            # What is counted is only compared with the threshold.
            del self._failed[:-FAULTS_IN_A_ROW]
            return False
        self.down_since = now
        self._probe_at = now + self._probe_wait_s
        return True
