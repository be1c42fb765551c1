"""Tools of the conformance suite that ask the client in the middle of a call, as 2025-11-25 has it."""

from typing import Annotated

from magnet_tools.registry import Ctx, Server
from mcp.server.mcpserver import Elicit, ElicitationResult, Resolve
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

STATES = ["active", "inactive", "pending"]


def register(server: Server) -> None:
    """Add the tools to the server."""
    for tool in (
        test_sampling,
        test_elicitation,
        test_elicitation_sep1034_defaults,
        test_elicitation_sep1330_enums,
        test_streaming_elicitation,
    ):
        server.add_tool(tool)


class Word(BaseModel):
    """One answer in words."""

    response: str = Field(description="User's response")


class Defaults(BaseModel):
    """A default for every primitive type."""

    name: str = Field(default="John Doe", description="User name")
    age: int = Field(default=30, description="User age")
    score: float = Field(default=95.5, description="User score")
    status: str = Field(default="active", description="User status", json_schema_extra={"enum": [*STATES]})
    verified: bool = Field(default=True, description="Verification status")


class Choices(BaseModel):
    """Every way to write a choice."""

    model_config = ConfigDict(alias_generator=to_camel)

    untitled_single: str = Field(json_schema_extra={"enum": [*STATES]})
    titled_single: str = Field(
        json_schema_extra={
            "oneOf": [
                {"const": "low", "title": "Low Priority"},
                {"const": "medium", "title": "Medium Priority"},
                {"const": "high", "title": "High Priority"},
            ]
        }
    )
    untitled_multi: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["read", "write", "execute"]}}
    )
    titled_multi: list[str] = Field(
        json_schema_extra={
            "items": {
                "anyOf": [
                    {"const": "feature", "title": "New Feature"},
                    {"const": "bug", "title": "Bug Fix"},
                    {"const": "docs", "title": "Documentation"},
                ]
            }
        }
    )
    legacy_enum: str = Field(
        json_schema_extra={
            "enum": ["small", "medium", "large"],
            "enumNames": ["Small Size", "Medium Size", "Large Size"],
        }
    )


async def test_sampling(prompt: str, ctx: Ctx) -> str:
    """Have the client's model answer."""
    # The call is deprecated, as sampling is; revision 2025-11-25 asks for it. Without the request's id it would go to
    # the client's own stream, which need not be open yet.
    result = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
        messages=[SamplingMessage(role="user", content=TextContent(text=prompt))],
        max_tokens=100,
        related_request_id=ctx.request_id,
    )
    return f"LLM response: {result.content.text if isinstance(result.content, TextContent) else 'no text'}"


async def test_elicitation(message: str, ctx: Ctx) -> str:
    """Ask the person a question."""
    return await _ask(ctx, message, Word)


async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
    """Ask with a default for every primitive type."""
    return await _ask(ctx, "Please provide user information", Defaults)


async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
    """Ask with every way to write a choice."""
    return await _ask(ctx, "Please select values", Choices)


async def _ask(ctx: Ctx, message: str, schema: type[BaseModel]) -> str:
    result = await ctx.elicit(message=message, schema=schema)
    content = result.data.model_dump_json(by_alias=True) if result.action == "accept" else "{}"
    return f"User response: action={result.action}, content={content}"


def _ask_for_a_word() -> Elicit[Word]:
    return Elicit("The streaming probe asks for a word", Word)


async def test_streaming_elicitation(answer: Annotated[ElicitationResult[Word], Resolve(_ask_for_a_word)]) -> str:
    """Ask through a resolver: in the stream, or as a result that asks for input."""
    return f"elicitation {answer.action}"
