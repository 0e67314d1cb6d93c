"""LoRA adapters, by the model's suffix; what they answer is what merged weights answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.contract.engines.conformance import ask, call
from tests.vllm.parts import ARGS, model

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import parse
from headrace.core.ports import Call
from headrace.engines import catalog

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

RANK, ALPHA, SIZE = 4, 16, 0.1
TOKENS = 12
NAMES: Final = ("loud", "quiet")
PROMPT = "The capital of France is"


def write_adapter(folder: Path, seed: int) -> None:
    """Random weights for two projections of every layer, as peft writes them."""
    import torch
    from safetensors.torch import save_file

    shape = json.loads((model() / "config.json").read_text())
    hidden, heads = shape["hidden_size"], shape["num_key_value_heads"]
    sizes = {"q_proj": hidden, "v_proj": heads * hidden // shape["num_attention_heads"]}
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(shape["num_hidden_layers"]):
        for part, size in sizes.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            weights[f"{name}.lora_A.weight"] = torch.randn(RANK, hidden, generator=random) * SIZE
            weights[f"{name}.lora_B.weight"] = torch.randn(size, RANK, generator=random) * SIZE
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": sorted(sizes)}
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"bias": "none", "task_type": "CAUSAL_LM"})
    )


def merged_answer(adapter: Path | None) -> str:
    """What transformers says with the adapter's product added to the weights."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(model(), dtype=torch.float32)
    weights = {} if adapter is None else load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for name in [name for name in weights if ".lora_A." in name]:
            target = name.removeprefix("base_model.model.").replace(".lora_A", "")
            product = weights[name.replace("lora_A", "lora_B")] @ weights[name]
            network.get_parameter(target).add_(product * ALPHA / RANK)
    tokenizer = AutoTokenizer.from_pretrained(model())
    prompt = tokenizer(PROMPT, return_tensors="pt")
    # Its defaults would be this model's own, with sampling.
    tokens = network.generate(**prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    return str(tokenizer.decode(tokens[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    model()  # or a skip
    folder = tmp_path_factory.mktemp("adapters")
    for number, name in enumerate(NAMES):
        write_adapter(folder / name, number)
    return {name: folder / name for name in NAMES}


def create(adapters: dict[str, Path]) -> Any:
    document = {
        "name": "chat",
        "engine": {"kind": "vllm", "args": ARGS},
        "model": {"source": "file:x"},
        "adapters": {name: {"source": f"file:{path}"} for name, path in adapters.items()},
    }
    return catalog.create(parse(document, where="test"), model(), None, adapters)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(adapters: dict[str, Path]) -> AsyncIterator[Any]:
    engine = create(adapters)
    await engine.start()
    yield engine
    await engine.stop()


def question(adapter: str | None, **asked: Any) -> Call:
    body = {"prompt": PROMPT, "max_tokens": TOKENS, "min_tokens": TOKENS, "temperature": 0}
    made = call("/v1/completions", **(body | asked))
    return made if adapter is None else made._replace(model=f"chat:{adapter}", adapter=adapter)


@pytest.mark.parametrize("stream", [False, True])
async def test_each_answers_as_merged_weights_do(
    engine: Any, adapters: dict[str, Path], *, stream: bool
) -> None:
    # In one batch, those without an adapter before, between and after those with one.
    names = [None, *NAMES, None]
    answers = await asyncio.gather(*(ask(engine, question(name, stream=stream)) for name in names))
    want = [await asyncio.to_thread(merged_answer, name and adapters[name]) for name in names]
    assert [answer.text for answer in answers] == want
    assert len(set(want)) == 1 + len(NAMES), "the adapters change nothing"
    assert [answer.whole["model"] for answer in answers] == [
        "org/name",
        "chat:loud",
        "chat:quiet",
        "org/name",
    ]


async def test_what_is_no_adapter_is_told(adapters: dict[str, Path], tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "adapter_config.json").write_text('{"r": 4}')
    (pickled / "adapter_model.bin").write_bytes(b"")
    ranked = tmp_path / "ranked"
    ranked.mkdir()
    (ranked / "adapter_config.json").write_text('{"r": 4096}')
    (ranked / "adapter_model.safetensors").write_bytes(b"")
    for path, words in ((pickled, "no adapter_model.safetensors"), (ranked, "no rank 'r'")):
        with pytest.raises(SetupError, match=words):
            await create({"bad": path}).start()
