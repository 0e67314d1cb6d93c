"""Rows and the table of `headrace backlog`."""

import pytest
from typer.testing import CliRunner

from headrace.cli.backlog import rows, table
from headrace.cli.main import app
from headrace.contracts.errors import SetupError
from headrace.contracts.topics import Lane
from headrace.kafka.backlog import PartitionBacklog

FOUND = [
    PartitionBacklog("org--secho", Lane.PRIORITY, 0, 2, 9),
    PartitionBacklog("org--secho", Lane.PRIORITY, 1, 1, 1),
    PartitionBacklog("org--secho", Lane.DEFAULT, 0, 1200, 1200),
]


def test_a_row_is_a_model_and_a_lane():
    assert [(row["model"], row["lane"], row["backlog"], row["lag"]) for row in rows(FOUND)] == [
        ("org/echo", "priority", 3, 10),
        ("org/echo", "default", 1200, 1200),
    ]
    assert rows(FOUND)[0]["partitions"] == [
        {"partition": 0, "backlog": 2, "lag": 9},
        {"partition": 1, "backlog": 1, "lag": 1},
    ]


def test_the_table_has_numbers_under_each_other():
    assert table(rows(FOUND)).splitlines() == [
        "model     lane      backlog   lag  partitions",
        "org/echo  priority        3    10           2",
        "org/echo  default      1200  1200           1",
    ]


def test_no_stack_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    done = CliRunner().invoke(app, ["backlog", "--data-dir", str(tmp_path)])
    assert isinstance(done.exception, SetupError)
    assert str(done.exception).startswith(f"No stack runs in {tmp_path}")


def test_a_kafka_that_does_not_answer_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("headrace.cli.backlog._ANSWER_S", 0.2)
    done = CliRunner().invoke(app, ["backlog", "--data-dir", str(tmp_path)])
    assert isinstance(done.exception, SetupError)
    assert "Kafka at 127.0.0.1:1 does not answer" in str(done.exception)


@pytest.mark.parametrize("name", ["a b", "-x-"])
def test_a_name_that_no_model_can_have_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    done = CliRunner().invoke(app, ["backlog", "--data-dir", str(tmp_path), "--", name])
    assert "is not allowed" in str(done.exception)
