"""An OpenAI body as llama.cpp is given it. Pure.

llama.cpp takes every setting of its own from the same body. What shapes the answer (`top_k`, `min_p`, …)
stays; what would steer the server, get round a limit or end the process does not.
"""

from typing import Any, Final

import orjson

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.openai import ChatBody
from headrace.core.ports import Call
from headrace.engines.single import check_schema_sizes, check_single, check_text_only, stop_strings

_DROPPED: Final = frozenset(
    {
        "add_generation_prompt",
        "backend_sampling",
        "id_slot",
        "lora",
        "max_completion_tokens",  # given as max_tokens
        "n",
        "n_cmpl",
        "n_discard",
        "n_keep",
        "n_predict",
        "n_probs",
        "post_sampling_probs",
        "response_fields",
        "return_tokens",
        "sse_ping_interval",
        "timings_per_token",
        "verbose",
    }
)
_REFUSED: Final = ("grammar", "json_schema")
_SEED_BITS: Final = 0x7FFF_FFFF


def prepare(call: Call, context_tokens: int, max_tokens: int | None) -> bytes:
    """The body for xllamacpp: always a stream, because only a stream can be aborted.

    Args:
        call: the request.
        context_tokens: prompt and answer together.
        max_tokens: the limit of a request that names none; None is until the context is full.

    Raises:
        InvalidRequest: llama.cpp cannot or must not do this.
    """
    asked = check_single(call.body)
    body: dict[str, Any] = orjson.loads(call.value)
    for name in _REFUSED:
        # A deeply nested grammar overflows the stack of llama.cpp's parser and takes the worker with it.
        if body.get(name) is not None:
            raise InvalidRequest(f"'{name}' is not taken: use 'response_format'", param=name)
    check_schema_sizes(body)
    for name in _DROPPED:
        body.pop(name, None)
    limit = asked.token_limit or max_tokens or context_tokens
    body |= {
        "stream": True,
        "stream_options": {"include_usage": True},
        # Progress through a long prompt is reported, so that it can be aborted there too.
        "return_progress": True,
        "cache_prompt": True,
        "max_tokens": min(limit, context_tokens),
        "stop": stop_strings(body.get("stop")),
    }
    if asked.seed is not None:
        body["seed"] = asked.seed & _SEED_BITS
    if isinstance(asked, ChatBody):
        check_text_only(asked)
        if asked.logprobs:
            # 0 would mean none at all; the reader cuts what is too many.
            body["top_logprobs"] = asked.top_logprobs or 1
    else:
        body["prompt"] = asked.prompt if isinstance(asked.prompt, str) else asked.prompt[0]
        if asked.echo:
            raise InvalidRequest("This model does not repeat the prompt: leave 'echo' out", param="echo")
        if asked.logprobs is not None:
            body["logprobs"] = asked.logprobs or 1
    return orjson.dumps(body)
