"""The example in docs/operations/keda.md is what KEDA takes."""

import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from tests.keda import fetched

_PAGE = Path(__file__).parents[3] / "docs" / "operations" / "keda.md"


@pytest.fixture
def schema(tmp_path):
    path = fetched(tmp_path) / "config" / "crd" / "bases" / "keda.sh_scaledobjects.yaml"
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def objects():
    blocks = re.findall(r"^```yaml\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [each for block in blocks for each in yaml.safe_load_all(block)]


def unknown(schema, value):
    """Fields of the value that the schema does not know; Kubernetes would drop them."""
    if isinstance(value, list):
        return [name for each in value for name in unknown(schema.get("items", {}), each)]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    found = [name for name in value if name not in schema["properties"]]
    known = {name: each for name, each in value.items() if name in schema["properties"]}
    return found + [name for key, each in known.items() for name in unknown(schema["properties"][key], each)]


def test_the_scaled_object_is_valid(schema):
    (example,) = [each for each in objects() if each["kind"] == "ScaledObject"]
    assert [error.message for error in Draft202012Validator(schema).iter_errors(example)] == []
    assert unknown(schema, example) == []
    assert {each["kind"] for each in objects()} == {"Deployment", "Service", "ScaledObject"}
