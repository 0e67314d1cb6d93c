"""`function.yaml`: what a function is, strictly.

Unknown keys are errors: a misspelt limit must not be silently ignored.
"""

import re
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.formats import PLAIN, Format
from headrace.contracts.parameters import Checker, check_schema
from headrace.contracts.requests import EMBEDDINGS, INFER, PREDICTIONS, TEXT_PATHS
from headrace.contracts.topics import MAX_NAME_CHARS, slug

FILE_NAME: Final = "function.yaml"
SCHEMA: Final = "headrace.function/v1"
SOURCES: Final = ("file", "s3", "hf", "package")


Path = Literal["/v1/chat/completions", "/v1/completions", "/v1/predictions", "/v1/embeddings", "/v2/infer"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


ENGINES: Final = ("echo", "llamacpp", "vllm", "onnx", "torch", "python")
_FOREIGN: Final = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"


def _is_an_engine(kind: str) -> str:
    if kind not in ENGINES and not re.fullmatch(_FOREIGN, kind):
        known = ", ".join(ENGINES)
        raise ValueError(f"{kind!r} is no engine: use {known}, or MODULE:FUNCTION of an installed package")
    return kind


EngineKind = Annotated[
    str,
    AfterValidator(_is_an_engine),
    WithJsonSchema({"anyOf": [{"enum": list(ENGINES)}, {"type": "string", "pattern": _FOREIGN}]}),
]


def _checked(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """A JSON Schema that is one."""
    fault = None if schema is None else check_schema(schema)
    if fault is not None:
        raise ValueError(f"not a JSON Schema: {fault}")
    return schema


class EngineSpec(_Strict):
    """Which engine runs the model, and its own arguments (checked by the engine).

    kind: one of Headrace's own, or `MODULE:FUNCTION` that makes one; docs/how-to/add-an-engine.md.
    """

    kind: EngineKind
    args: dict[str, Any] = Field(default_factory=dict)


class ModelSource(_Strict):
    """Where the model's bytes come from.

    source: `file:PATH` (relative to the function's folder), `s3://BUCKET/KEY`,
        `hf:ORG/NAME[@REVISION][/FILE]`, or `package:MODULE/RESOURCE` (a file inside an installed
        Python package).
    sha256: refuse anything else; hex digest of the one file the source names.
    """

    source: Annotated[str, StringConstraints(pattern=r"^(file|s3|hf|package):.+")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


AdapterName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]


class Limits(_Strict):
    """What one request may ask for. `max_concurrency` None means what the engine can hold.

    max_queued: requests that may wait for the model in all lanes; gateways refuse more with 429.
    """

    max_body_bytes: int = Field(default=1_000_000, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    deadline_s: float = Field(default=600.0, gt=0)
    max_concurrency: int | None = Field(default=None, ge=1)
    max_queued: int | None = Field(default=None, ge=1)


class Retry(_Strict):
    """What happens when the engine fails on a request. `delays`: before the second attempt, the third, …;
    the last one repeats.
    """

    max_attempts: int = Field(default=3, ge=1, le=10)
    delays: tuple[Literal["5s", "30s", "5m"], ...] = ("5s", "30s", "5m")


class Scaling(_Strict):
    """How many workers, as the work asks for. With `max_workers` 0 requests wait, and nothing starts.

    utilization: of a worker's time that is planned with. drain_target_s: a backlog shall be gone in so long.
    idle_s: without work until the last workers go; None: by the model's own pauses, at most 15 minutes.
    surge: workers beyond `max_workers` that a change of version may have for a while; with 0 an old one goes
        before a new one comes. None: as many as there are.
    work_s: seconds of one full worker for a request, until that was measured; None: one worker measures it.
    gpus: that one worker takes of what all models together may have; 0 where it computes on none.
    """

    min_workers: int = Field(default=1, ge=0)
    max_workers: int = Field(default=1, ge=0)
    utilization: float = Field(default=0.8, gt=0, le=1)
    drain_target_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    idle_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    work_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    surge: int | None = Field(default=None, ge=0)
    gpus: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers is {self.min_workers}, more than max_workers, {self.max_workers}")
        return self


class Health(_Strict):
    """How it is known that workers are well.

    canary: a request for the first of `serves`, which each worker answers before it takes others, and again
        when it has answered none for `every_s`, or its engine has failed on one. It is in no topic and no
        count, and no caller sees it. None: one token, or one embedding, for models of text; False: none.
    answer: a JSON Schema that the canary's answer must meet.
    timeout_s: of the canary.
    failures: so many canaries in a row end a worker, which is replaced; so many workers in a row end a
        version of which none was ever well, and the one before it comes back.
    start_timeout_s: a worker that is not ready by then has failed.
    """

    canary: dict[str, Any] | Literal[False] | None = None
    answer: dict[str, Any] | None = None
    every_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    failures: int = Field(default=3, ge=1)
    start_timeout_s: float = Field(default=900.0, gt=0, allow_inf_nan=False)

    @field_validator("answer")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        return _checked(schema)

    @cached_property
    def wants(self) -> Checker | None:
        """What `answer` says."""
        return None if self.answer is None else Checker(self.answer)


class Manifest(_Strict):
    """A function: a model, the engine that runs it, and its limits.

    serves: paths; a request that names none is for the first. By default what the engine is for.
    adapters: LoRA weights by name, each a folder as peft writes it; model `NAME:ADAPTER` has one.
    parameters, result: JSON Schemas of `input` and `output` of `/v1/predictions`.
    formats: what callers may ask for by `Accept`; the first is for those who ask for nothing. Not of streams.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    schema_: Literal["headrace.function/v1"] = Field(default=SCHEMA, alias="schema")
    name: Annotated[str, StringConstraints(max_length=MAX_NAME_CHARS)]
    description: str = ""
    serves: Annotated[tuple[Path, ...], Field(min_length=1)] = TEXT_PATHS
    engine: EngineSpec
    parameters: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    formats: Annotated[tuple[Format, ...], Field(min_length=1)] = (PLAIN,)
    model: ModelSource | None = None
    adapters: dict[AdapterName, ModelSource] = Field(default_factory=dict)
    limits: Limits = Limits()
    retry: Retry = Retry()
    scaling: Scaling = Scaling()
    health: Health = Health()

    @model_validator(mode="before")
    @classmethod
    def _serves_what_the_engine_is_for(cls, document: object) -> object:
        if not isinstance(document, dict) or "serves" in document:
            return document
        engine = document.get("engine")
        serves = _serves(engine) if isinstance(engine, dict) else None
        return document if serves is None else {**document, "serves": serves}

    @field_validator("adapters")
    @classmethod
    def _are_for_vllm(cls, adapters: dict[str, ModelSource], info: ValidationInfo) -> dict[str, ModelSource]:
        engine = info.data.get("engine")
        if adapters and engine is not None and engine.kind != "vllm":
            raise ValueError(f"engine {engine.kind} takes no adapters, only vllm does")
        return adapters

    @field_validator("parameters", "result")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        return _checked(schema)

    @cached_property
    def takes(self) -> Checker | None:
        """What `parameters` says of an `input`."""
        return None if self.parameters is None else Checker(self.parameters)

    @cached_property
    def gives(self) -> Checker | None:
        """What `result` says of an `output`."""
        return None if self.result is None else Checker(self.result)

    @field_validator("name")
    @classmethod
    def _name_has_a_slug(cls, name: str) -> str:
        try:
            slug(name)
        except InvalidRequest as error:
            raise ValueError(error.message) from None
        return name


def _serves(engine: dict[str, Any]) -> tuple[str, ...] | None:
    """What an engine is for, unless that is text."""
    args = engine.get("args")
    if isinstance(args, dict) and args.get("task") == "embeddings":
        return (EMBEDDINGS,)
    return {"python": (PREDICTIONS,), "onnx": (INFER, PREDICTIONS), "torch": (INFER, PREDICTIONS)}.get(
        str(engine.get("kind"))
    )


def parse(document: object, *, where: str) -> Manifest:
    """Check a manifest that was read from `where`.

    Raises:
        SetupError: naming each field that is wrong, and where.
    """
    if not isinstance(document, dict):
        raise SetupError(f"{where}: a manifest is a mapping of keys such as 'name' and 'engine'")
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'manifest'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise SetupError(f"{where}: {problems}") from None
