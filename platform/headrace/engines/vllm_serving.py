"""vLLM's own OpenAI serving classes, in this process and without its HTTP server.

They apply the chat template, the tool and reasoning parsers and the grammars, so that bodies are vLLM's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models.protocol import BaseModelPath, LoRAModulePath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.v1.engine.async_llm import AsyncLLM

from headrace.contracts.requests import CHAT
from headrace.engines.vllm_args import VllmArgs


@dataclass(frozen=True, slots=True)
class Serving:
    """Serves bodies with one engine."""

    chat: OpenAIServingChat
    completion: OpenAIServingCompletion
    models: OpenAIServingModels

    async def create(self, path: str, body: dict[str, Any]) -> Any:
        """vLLM's response, its stream of server-sent events, or its `ErrorResponse`; it may raise, too."""
        if path == CHAT:
            return await self.chat.create_chat_completion(ChatCompletionRequest.model_validate(body))
        return await self.completion.create_completion(CompletionRequest.model_validate(body))


def serving(llm: AsyncLLM, args: VllmArgs, model: str, adapters: Mapping[str, Path]) -> Serving:
    """The serving classes on an engine. `model`: its name; a body that names one of `adapters` gets it."""
    loras = [LoRAModulePath(name=name, path=str(folder)) for name, folder in adapters.items()]
    models = OpenAIServingModels(llm, [BaseModelPath(name=model, model_path=model)], lora_modules=loras)
    parsers: dict[str, Any] = {
        "enable_auto_tools": args.tool_call_parser is not None,
        "tool_parser": args.tool_call_parser,
        "reasoning_parser": args.reasoning_parser or "",
    }
    template: dict[str, Any] = {"chat_template": None, "chat_template_content_format": "auto"}
    renderer = OnlineRenderer(llm.model_config, llm.renderer, request_logger=None, **template, **parsers)
    chat = OpenAIServingChat(
        llm, models, "assistant", online_renderer=renderer, request_logger=None, **template, **parsers
    )
    completion = OpenAIServingCompletion(llm, models, online_renderer=renderer, request_logger=None)
    return Serving(chat, completion, models)
