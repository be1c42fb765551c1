"""Tools of the conformance suite that return each kind of content, progress, log messages and errors."""

from typing import Annotated, Any, TypeAlias

import anyio
from magnet_tools.registry import Ctx, Server
from mcp import MCPError
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import Prompt
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

Json: TypeAlias = Any
"""A JSON Schema, as the suite wants it."""

SCHEMA_2020_12: dict[str, Json] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

Region: TypeAlias = Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]


def register(server: Server) -> None:
    """Add the tools to the server."""
    for tool in (
        test_simple_text,
        test_image_content,
        test_audio_content,
        test_embedded_resource,
        test_multiple_content_types,
        test_tool_with_logging,
        test_logging_tool,
        test_tool_with_progress,
        test_error_handling,
        test_missing_capability,
        test_x_mcp_header,
        json_schema_2020_12_tool,
    ):
        server.add_tool(tool)
    _replace_schema(server, json_schema_2020_12_tool.__name__, SCHEMA_2020_12)
    _register_triggers(server)


def _replace_schema(server: Server, name: str, schema: dict[str, Json]) -> None:
    # The SDK derives a schema from the signature and offers no way to give one.
    tools = server._tool_manager.list_tools()  # pyright: ignore[reportPrivateUsage] see above
    [tool] = [tool for tool in tools if tool.name == name]
    tool.parameters = schema


def _register_triggers(server: Server) -> None:
    @server.tool()
    async def test_trigger_tool_change(ctx: Ctx) -> str:  # pyright: ignore[reportUnusedFunction] registered above
        """Change the list of tools and announce it."""
        server.add_tool(test_simple_text, name="test_dynamic_tool")
        server.remove_tool("test_dynamic_tool")
        await ctx.notify_tools_changed()
        return "tool list changed"

    @server.tool()
    async def test_trigger_prompt_change(ctx: Ctx) -> str:  # pyright: ignore[reportUnusedFunction] registered above
        """Change the list of prompts and announce it."""
        server.add_prompt(Prompt.from_function(test_simple_text, name="test_dynamic_prompt"))
        server.remove_prompt("test_dynamic_prompt")
        await ctx.notify_prompts_changed()
        return "prompt list changed"


def embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    """Return a resource that travels inside a result."""
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def image() -> ImageContent:
    """Return a picture of one pixel."""
    return ImageContent(data=PNG, mime_type="image/png")


def test_simple_text() -> str:
    """Return a text."""
    return "This is a simple text response for testing."


def test_image_content() -> list[ImageContent]:
    """Return a picture."""
    return [image()]


def test_audio_content() -> list[AudioContent]:
    """Return a sound."""
    return [AudioContent(data=WAV, mime_type="audio/wav")]


def test_embedded_resource() -> list[EmbeddedResource]:
    """Return a resource inside the result."""
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Return text, picture and resource together."""
    mixed = embedded("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json")
    return [TextContent(text="Multiple content types test:"), image(), mixed]


async def test_tool_with_logging(ctx: Ctx) -> str:
    """Send three log messages while it works."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        # The channel is deprecated; revision 2025-11-25 asks for it.
        await ctx.info(message)  # pyright: ignore[reportDeprecated]
        await anyio.sleep(0.05)
    return "Tool with logging executed successfully"


async def test_logging_tool(ctx: Ctx) -> str:
    """Send one log message, which arrives only where the request asked for it."""
    await ctx.info("test_logging_tool ran")  # pyright: ignore[reportDeprecated] see above
    return "logged"


async def test_tool_with_progress(ctx: Ctx) -> str:
    """Report progress three times."""
    for step in (0, 50, 100):
        await ctx.report_progress(step, 100, f"Completed step {step} of 100")
        await anyio.sleep(0.05)
    return "done"


def test_error_handling() -> str:
    """Fail on purpose."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_missing_capability(ctx: Ctx) -> str:
    """Refuse a client that does not declare sampling."""
    capabilities = ctx.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        raise MCPError(
            code=MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool requires the client 'sampling' capability",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return "the client declares sampling"


def test_x_mcp_header(region: Region = "<none>") -> str:
    """Take an argument that a header repeats."""
    return f"region={region}"


def json_schema_2020_12_tool() -> str:
    """Keep every keyword of its schema in the list of tools."""
    return "json_schema_2020_12_tool"
