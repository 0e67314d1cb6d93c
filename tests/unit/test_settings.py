"""Settings come from HEADRACE_* variables, each under one name, and a wrong one is told by it."""

import os

import pytest

from headrace.contracts.errors import SetupError
from headrace.settings import Settings, environment, for_workers, given, load


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in list(os.environ):
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)


def test_defaults():
    assert load() == Settings()


def test_variables_by_group_and_field(monkeypatch):
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2")
    monkeypatch.setenv("HEADRACE_GATEWAY_PORT", "0")
    monkeypatch.setenv("HEADRACE_WORKER_REPLY_TOPICS", '["a.*", "b"]')
    monkeypatch.setenv("HEADRACE_SCALER_RESTART_BACKOFF_S", "[0, 2.5]")
    monkeypatch.setenv("HEADRACE_RAY_RESOURCES", '{"tape": 0.5}')
    monkeypatch.setenv("HEADRACE_SECRET_KEY", "sixteen characters")
    settings = load()
    assert settings.kafka.bootstrap_servers == "a:1,b:2"
    assert settings.gateway.port == 0
    assert settings.worker.reply_topics == ("a.*", "b")
    assert settings.scaler.restart_backoff_s == (0.0, 2.5)
    assert settings.ray.resources == {"tape": 0.5}
    assert settings.secret_key.get_secret_value() == "sixteen characters"
    assert "sixteen" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("HEADRACE_GATEWAY_PORT", "http", "valid integer"),
        ("HEADRACE_GATEWAY_PORT", "70000", "less than or equal to 65535"),
        ("HEADRACE_WORKER_REPLY_TOPICS", "a,b", "JSON list"),
        ("HEADRACE_WORKER_REPLY_TOPICS", "[1]", "valid string"),
        ("HEADRACE_KAFKA_SECURITY_PROTOCOL", "TLS", "PLAINTEXT"),
        ("HEADRACE_LOG_LEVEL", "loud", "debug"),
        ("HEADRACE_SECRET_KEY", "short", "at least 16"),
        ("HEADRACE_SCALER_ACTUATOR", "slurm", "'slurm' is no actuator: use process, .*MODULE:FUNCTION"),
        ("HEADRACE_SCALER_RESTART_BACKOFF_S", "[]", "at least 1 item"),
        ("HEADRACE_RAY_NUM_GPUS", "1.5", "more than one must be a whole number"),
        ("HEADRACE_RAY_RESOURCES", "tape", "JSON object"),
        ("HEADRACE_RAY_RESOURCES", '{"tape": 0}', "greater than 0"),
    ],
)
def test_a_wrong_value_is_told_with_its_variable(monkeypatch, name, value, why):
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=f"Setting {name} is wrong: .*{why}"):
        load()


def test_a_misspelt_variable_is_not_ignored(monkeypatch):
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP", "a:1")
    with pytest.raises(SetupError, match="no setting HEADRACE_KAFKA_BOOTSTRAP"):
        load()


def test_defaults_give_way_to_the_environment(monkeypatch):
    monkeypatch.setenv("HEADRACE_S3_BUCKET", "mine")
    settings = load(defaults={"HEADRACE_S3_BUCKET": "theirs", "HEADRACE_S3_REGION": "eu-west-1"})
    assert (settings.s3.bucket, settings.s3.region) == ("mine", "eu-west-1")


def test_an_empty_variable_is_not_set(monkeypatch):
    monkeypatch.setenv("HEADRACE_S3_BUCKET", "")
    assert given() == frozenset()
    assert load().s3.bucket == "headrace"


def test_a_childs_environment_is_ours_with_changes(monkeypatch):
    monkeypatch.setenv("HEADRACE_S3_BUCKET", "mine")
    child = environment({"HEADRACE_GATEWAY_PORT": "1"})
    assert (child["HEADRACE_S3_BUCKET"], child["HEADRACE_GATEWAY_PORT"]) == ("mine", "1")


def test_a_worker_elsewhere_gets_what_it_needs_and_no_more(monkeypatch):
    for name in ("KAFKA_SASL_PASSWORD", "S3_BUCKET", "WORKER_DRAIN_S", "SECRET_KEY", "LOG_FORMAT"):
        monkeypatch.setenv(f"HEADRACE_{name}", "its")
    for name in ("DATABASE_URL", "CACHE_DIR", "SCALER_ACTUATOR", "RAY_ADDRESS", "GATEWAY_PORT", "NO_SUCH"):
        monkeypatch.setenv(f"HEADRACE_{name}", "not its")
    assert set(for_workers().values()) == {"its"}
    assert len(for_workers()) == 5
