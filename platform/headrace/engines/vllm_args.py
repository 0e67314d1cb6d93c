"""Arguments of the `vllm` engine."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class VllmArgs(BaseModel):
    """Arguments of the `vllm` engine.

    task: what the model is for; `embeddings` serves /v1/embeddings.
    pooling: of embeddings, where the model's own files do not say it.
    max_num_seqs: requests at once.
    context_tokens: of each of them, prompt and answer together; None for all that the model was made for.
    batch_tokens: computed in one go, of all requests together; None for vLLM's choice.
    dtype: of weights and activations. On a CPU without bfloat16 instructions `float32` is several times
        faster than `auto`.
    quantization: of the weights, where the model's own files do not say it.
    enforce_eager: no compilation and no CUDA graphs: a quicker start, slower answers on a GPU.
    gpu_memory_fraction: of a GPU's memory, for everything.
    kv_cache_gib: memory for the KV cache; on a GPU None takes what is left, on a CPU say it.
    tensor_parallel: GPUs that share each layer.
    max_adapters: LoRA adapters in one batch, on a GPU; others wait in memory. On a CPU there is room for all.
    prefix_caching: keep what was computed of a prompt for the next that begins alike; None: where it can.
    tool_call_parser: vLLM's name for how the model writes tool calls (`hermes`, `llama3_json`, …); without it
        requests with tools are refused.
    reasoning_parser: vLLM's name for how it marks its reasoning (`deepseek_r1`, `qwen3`, …); without it
        reasoning is part of the answer.
    """

    # Strict, because "4" or 1.0 for a number of GPUs is a mistake; extra, because a misspelt one is too.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    task: Literal["text", "embeddings"] = "text"
    pooling: Literal["mean", "cls", "last"] | None = None
    max_num_seqs: int = Field(default=64, ge=1, le=4096)
    context_tokens: int | None = Field(default=None, ge=64)
    batch_tokens: int | None = Field(default=None, ge=64)
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    enforce_eager: bool = False
    gpu_memory_fraction: float = Field(default=0.9, gt=0, le=1)
    kv_cache_gib: float | None = Field(default=None, gt=0)
    tensor_parallel: int = Field(default=1, ge=1)
    max_adapters: int = Field(default=4, ge=1)
    prefix_caching: bool | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
