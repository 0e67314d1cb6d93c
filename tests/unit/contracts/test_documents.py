"""The generated documents: valid, whole, up to date, and true to code beyond the contracts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from headrace.cli import schemas as command
from headrace.contracts import headers as h
from headrace.contracts import replies, requests
from headrace.contracts.documents.asyncapi import asyncapi
from headrace.contracts.documents.header_tables import (
    DEAD_LETTER_HEADERS,
    REPLY_HEADERS,
    REQUEST_HEADERS,
    RETRY_HEADERS,
    header_schema,
)
from headrace.contracts.documents.json_schemas import json_schemas
from headrace.contracts.documents.openapi import openapi
from headrace.contracts.errors import ERRORS, SetupError
from headrace.contracts.replies import ReplyHead
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import LANES, Topics

_ROOT = Path(__file__).parents[3]
_OPENAPI = openapi("1")
_ASYNCAPI = asyncapi("1")


def test_the_files_in_the_repository_are_up_to_date() -> None:
    command.schemas(_ROOT / "schemas", check=True)


def test_making_them_twice_makes_the_same_bytes() -> None:
    assert command.files() == command.files()


def test_check_names_what_is_stale_and_what_to_run(tmp_path: Path) -> None:
    command.schemas(tmp_path)
    (tmp_path / "openapi.yaml").write_text("old")
    (tmp_path / "cancel.schema.json").unlink()
    (tmp_path / "gone.schema.json").write_text("{}")
    with pytest.raises(SetupError) as raised:
        command.schemas(tmp_path, check=True)
    assert str(raised.value) == (
        f"Stale in {tmp_path}: cancel.schema.json, gone.schema.json, openapi.yaml; "
        f"run `headrace schemas --out {tmp_path}`"
    )


@pytest.mark.parametrize("stem", sorted(json_schemas()))
def test_json_schemas_are_schemas(stem: str) -> None:
    schema = json_schemas()[stem]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(f"/{stem}.schema.json")


@pytest.mark.parametrize("document", [_OPENAPI, _ASYNCAPI], ids=["openapi", "asyncapi"])
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = [found["$ref"] for found in _objects(document) if isinstance(found.get("$ref"), str)]
    assert references
    for reference in references:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


@pytest.mark.parametrize("document", [_OPENAPI, _ASYNCAPI], ids=["openapi", "asyncapi"])
def test_every_component_schema_is_a_schema_and_used(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        if document is _OPENAPI:
            assert f'"#/components/schemas/{name}"' in text, name


def test_openapi_has_every_error_of_the_table() -> None:
    shown = {
        code
        for response in _OPENAPI["components"]["responses"].values()
        for code in response["content"]["application/json"]["examples"]
    }
    assert shown == set(ERRORS)


def test_openapi_has_the_members_that_every_operation_needs() -> None:
    operations = [
        operation
        for item in _OPENAPI["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    for operation in operations:
        assert operation["summary"]
        assert "200" in operation["responses"]
    for path, item in _OPENAPI["paths"].items():
        assert ("{" in path) == ("parameters" in item)


def test_openapi_and_the_gateway_have_the_same_paths() -> None:
    from headrace.gateway import batches, catalog, files, jobs, responses, webhooks
    from headrace.gateway.directory import Directory

    nothing: Any = None
    routes = [
        *catalog.routes(Directory(Topics()), lambda: True),
        *jobs.routes(nothing),
        *webhooks.routes(nothing),
        *responses.routes(nothing),
        *files.routes(nothing),
        *batches.routes(nothing),
    ]
    served = {route.path.replace("{name:path}", "{model}") for route in routes}
    assert served | set(requests.URLS) == set(_OPENAPI["paths"])


def test_asyncapi_has_every_topic() -> None:
    topics = Topics()
    wanted = {plan.name for plan in topics.shared_plans()}
    wanted |= {topics.requests("{model}", lane) for lane in LANES}
    assert {channel["address"] for channel in _ASYNCAPI["channels"].values()} == wanted | {None}


def test_asyncapi_operations_use_messages_of_their_channels() -> None:
    for operation in _ASYNCAPI["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        for message in operation.get("messages", []):
            assert message["$ref"].startswith(f"{channel}/messages/")
        reply = operation.get("reply")
        if reply is not None:
            assert all(
                m["$ref"].startswith(f"{reply['channel']['$ref']}/messages/") for m in reply["messages"]
            )


def test_asyncapi_says_where_replies_go_under_every_alias() -> None:
    components = _ASYNCAPI["components"]
    for kind, names in (("replyAddresses", h.REPLY_TOPIC_NAMES), ("correlationIds", h.CORRELATION_NAMES)):
        locations = {found["location"] for found in components[kind].values()}
        assert locations == {f"$message.header#/{name}" for name in names}
        headers = components["messages"]["request"]["headers"]["properties"]
        assert set(names) <= set(headers)


def test_headers_that_are_written_are_in_the_tables() -> None:
    request = RequestHead(
        "r", "/s", reply=ReplyAddress("t", 1), expires_at_s=1.0, tenant="t", batch_id="b", attempt=2
    )
    _check_headers(REQUEST_HEADERS, requests.write(request))
    for state in (None, State.COMPLETED, State.FAILED):
        _check_headers(REPLY_HEADERS, replies.write(ReplyHead("r", state, "/w", run="3/w")))


def test_every_header_name_is_in_a_table() -> None:
    # Told apart from other constants by how headers are spelt.
    ours = {value for value in vars(h).values() if isinstance(value, str) and value.startswith("ce_")}
    tables = (*REQUEST_HEADERS, *REPLY_HEADERS, *DEAD_LETTER_HEADERS, *RETRY_HEADERS)
    assert ours - {name for row in tables for name in row.names} == set()


def test_yaml_reads_back_as_it_was_made() -> None:
    assert (
        yaml.safe_load(command.files()["openapi.yaml"])["paths"] == json.loads(json.dumps(_OPENAPI))["paths"]
    )


def _check_headers(rows: Any, written: h.Headers) -> None:
    schema = {**header_schema(rows), "additionalProperties": False}
    Draft202012Validator(schema).validate({name: value.decode() for name, value in written})


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)
