"""The host's own model as a backend: what it is to be asked is handed out, and its answer is taken when it has come.

Where no endpoint is configured, whoever drives the session from outside (a chat host's model, or a person) writes in
the agents' place. One asking is one pass with no answer, which ends in `AnswerAwaitedError` and leaves the request,
and one with it.
"""

from dataclasses import dataclass, field

from magnet.engines import HOST
from magnet.errors import MagnetError
from magnet.llm import Choice, Completion, Request


class AnswerAwaitedError(MagnetError):
    """The host's own model is to answer this request first."""

    kind = "answer_awaited"

    def __init__(self, request: Request) -> None:
        """Keep the request that has no answer yet."""
        super().__init__(f"the host's own model is to answer as the {request.agent}")
        self.request = request


@dataclass(frozen=True, slots=True)
class HostModel:
    """A backend that answers with what the host said, under its model's name; `asked` collects what has no answer."""

    answer: Choice | None = None
    name: str = HOST
    asked: list[Request] = field(default_factory=list[Request])

    async def __call__(self, request: Request) -> Completion:
        """Return what the host said.

        Raises:
            AnswerAwaitedError: it has not said anything yet.
        """
        if self.answer is None:
            self.asked.append(request)
            raise AnswerAwaitedError(request)
        return Completion((self.answer,), model=self.name)
