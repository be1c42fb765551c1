"""Resources, prompts and older request handlers of the conformance suite."""

import base64
import json
from typing import Any

from magnet_tools.registry import Server
from mcp.server import ServerRequestContext
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    EmptyResult,
    PromptReference,
    ResourceTemplateReference,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)

from conformance.content_fixtures import PNG, embedded, image
from magnet.runtime import Runtime


def register(server: Server) -> None:
    """Add resources, prompts and handlers to the server."""
    server.resource("test://static-text")(static_text)
    server.resource("test://static-binary")(static_binary)
    server.resource("test://template/{name}/data")(template)
    server.resource("test://watched-resource")(watched)
    for prompt in (
        test_simple_prompt,
        test_prompt_with_arguments,
        test_prompt_with_embedded_resource,
        test_prompt_with_image,
    ):
        server.add_prompt(Prompt.from_function(prompt))
    server.completion()(complete)
    # The SDK's server class has no public way to take these three requests of the older revisions.
    handlers = server._lowlevel_server  # pyright: ignore[reportPrivateUsage] see above
    handlers.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
    handlers.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    handlers.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)


def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


def static_binary() -> bytes:
    """A picture."""
    return base64.b64decode(PNG)


def template(name: str) -> str:
    """A text that holds a part of its address."""
    return json.dumps({"id": name, "templateTest": True, "data": f"Data for ID: {name}"})


def watched() -> str:
    """A text to subscribe to."""
    return "Watched resource content"


def _say(text: str) -> UserMessage:
    return UserMessage(content=TextContent(text=text))


def test_simple_prompt() -> list[UserMessage]:
    """A prompt without arguments."""
    return [_say("This is a simple prompt for testing.")]


def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    """A prompt with two arguments."""
    return [_say(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]


def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 the suite's name
    """A prompt that holds a resource."""
    resource = embedded(resourceUri, "Embedded resource content for testing.")
    return [UserMessage(content=resource), _say("Please process the embedded resource above.")]


def test_prompt_with_image() -> list[UserMessage]:
    """A prompt that holds a picture."""
    return [UserMessage(content=image()), _say("Please analyze the image above.")]


async def complete(
    ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument, context: CompletionContext | None
) -> Completion:
    """Complete nothing."""
    return Completion(values=[], total=0, has_more=False)


async def accept(
    ctx: ServerRequestContext[Runtime, Any],  # the transport's request, of a type the SDK leaves open
    params: SetLevelRequestParams | SubscribeRequestParams | UnsubscribeRequestParams,
) -> EmptyResult:
    """Accept what the client asks for."""
    return EmptyResult()
