"""An OpenAI body as vLLM is given it. Pure.

vLLM takes much more from a body than the model's settings: where its KV cache comes from, what it fetches,
the priority of a request. So what goes in is a list of what may, not of what may not.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.openai import ChatBody
from headrace.core.ports import Call
from headrace.engines.single import check_schema_sizes, check_single, check_text_only, stop_strings

_TAKEN: Final = frozenset(
    {
        # OpenAI's
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "presence_penalty",
        "response_format",
        "seed",
        "temperature",
        "top_p",
        # vLLM's own
        "allowed_token_ids",
        "bad_words",
        "ignore_eos",
        "include_stop_str_in_output",
        "min_p",
        "min_tokens",
        "repetition_penalty",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop_token_ids",
        "top_k",
    }
)
_TAKEN_OF_CHATS: Final = _TAKEN | {
    "add_generation_prompt",
    "chat_template_kwargs",
    "continue_final_message",
    "documents",
    "include_reasoning",
    "messages",
    "parallel_tool_calls",
    "reasoning_effort",
    "thinking_token_budget",
    "tool_choice",
    "tools",
    "top_logprobs",
}
_TAKEN_OF_COMPLETIONS: Final = _TAKEN | {"add_special_tokens", "echo", "suffix"}
_REFUSED: Final = (
    "chat_template",  # a program
    "prompt_embeds",  # a pickle
    "prompt_logprobs",
    "structured_outputs",  # a regular expression can take for ever
    "truncate_prompt_tokens",
    "use_beam_search",  # many sequences at once
)
"""To leave these out would give another answer than was asked for."""
_SEED_BITS: Final = 0x7FFF_FFFF_FFFF_FFFF


def prepare(call: Call, request_id: str, context_tokens: int, max_tokens: int | None) -> dict[str, Any]:
    """The body for vLLM.

    Args:
        call: the request.
        request_id: vLLM's name for it, by which it can be aborted.
        context_tokens: prompt and answer together.
        max_tokens: the limit of a request that names none; None is until the context is full.

    Raises:
        InvalidRequest: vLLM cannot or must not do this.
    """
    asked = check_single(call.body)
    given: dict[str, Any] = orjson.loads(call.value)
    for name in _REFUSED:
        if given.get(name) is not None:
            raise InvalidRequest(f"This model does not take '{name}': leave it out", param=name)
    kwargs = given.get("chat_template_kwargs")
    if isinstance(kwargs, dict) and "chat_template" in kwargs:
        raise InvalidRequest("This model has a chat template of its own", param="chat_template_kwargs")
    check_schema_sizes(given)
    is_chat = isinstance(asked, ChatBody)
    taken = _TAKEN_OF_CHATS if is_chat else _TAKEN_OF_COMPLETIONS
    body = {name: value for name, value in given.items() if name in taken and value is not None}
    # vLLM's own default for a completion would be 16 tokens, and it refuses more than the context holds.
    limit = min(asked.token_limit or max_tokens or context_tokens, context_tokens)
    body["max_completion_tokens" if is_chat else "max_tokens"] = limit
    if call.adapter is not None:
        body["model"] = call.model
    body |= {"request_id": request_id, "stop": stop_strings(asked.stop), "stream": bool(asked.stream)}
    if asked.stream:
        # Always, because the whole answer has it.
        body["stream_options"] = {"include_usage": True}
    if asked.seed is not None:
        body["seed"] = asked.seed & _SEED_BITS
    if isinstance(asked, ChatBody):
        check_text_only(asked)
    else:
        body["prompt"] = asked.prompt if isinstance(asked.prompt, str) else asked.prompt[0]
    return body


def check_no_tools(body: Mapping[str, Any]) -> None:
    """Refuse tools for a model whose tool calls nobody can read.

    Raises:
        InvalidRequest: the body has tools, and does not forbid to call them.
    """
    if body.get("tools") and body.get("tool_choice") != "none":
        raise InvalidRequest(
            "This model is not set up to call tools ('tool_call_parser' in its manifest): leave 'tools' out",
            param="tools",
        )
