"""`headrace dead-letters` on a running stack: a record nobody can read is listed, shown and replayed."""

import asyncio
import json
import subprocess
import sys
import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from tests.stack import START_S, Stack, wait_until

from headrace.contracts.topics import Lane, Topics

pytestmark = pytest.mark.timeout(180)

_LANE = Topics().requests("echo", Lane.DEFAULT)


def dead_letters(stack: Stack, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `headrace dead-letters …` on the stack, with nobody at the keyboard."""
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "dead-letters", *arguments, "--data-dir", str(stack.data_dir)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def listed(stack: Stack, request_id: str, *filters: str) -> list[dict[str, Any]]:
    found = json.loads(dead_letters(stack, "list", "--json", *filters).stdout)
    return [letter for letter in found if letter["id"] == request_id]


def publish_broken(stack: Stack, value: bytes = b"{broken") -> str:
    """Publish what no worker can read; gives its id once its dead letter is there."""
    request_id = f"broken-{uuid.uuid4().hex}"

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka_bootstrap_servers)
        await producer.start()
        try:
            await producer.send_and_wait(_LANE, value, headers=[("ce_id", request_id.encode())])
        finally:
            await producer.stop()

    asyncio.run(send())
    wait_until(lambda: bool(listed(stack, request_id)), "the dead letter")
    return request_id


def test_it_is_listed_shown_and_replayed_once(stack: Stack) -> None:
    request_id = publish_broken(stack)
    (letter,) = listed(stack, request_id)
    assert (letter["model"], letter["lane"], letter["code"]) == ("echo", "default", "malformed_body")
    assert (letter["origin"]["topic"], letter["replayed"]) == (_LANE, False)

    shown = dead_letters(stack, "show", request_id).stdout
    assert "{broken" in shown
    assert "malformed_body" in shown
    assert f"ce_id: {request_id}" in shown
    assert json.loads(dead_letters(stack, "show", letter["place"], "--json").stdout)["body"] == "{broken"

    done = dead_letters(stack, "replay", request_id, "--yes")
    assert f"{letter['place']} {request_id} -> {_LANE}-" in done.stdout
    assert "Replayed 1 of 1 dead letter." in done.stdout
    # It is as broken as before, so it becomes a second letter, which says what it is.
    wait_until(lambda: len(listed(stack, request_id)) == 2, "the second letter")
    first, second = listed(stack, request_id)
    assert (first["place"], first["replayed"], second["replayed"]) == (letter["place"], True, False)
    again = json.loads(dead_letters(stack, "show", second["place"], "--json").stdout)
    assert again["headers"]["ce_replayof"] == f"headrace.dead-letters-{letter['place']}"
    assert f"{request_id} (replayed)" in dead_letters(stack, "list").stdout

    refused = dead_letters(stack, "replay", letter["place"], "--yes", code=1)
    assert "was replayed already; --again" in refused.stderr
    dead_letters(stack, "replay", letter["place"], "--again", "--yes")
    wait_until(lambda: len(listed(stack, request_id)) == 3, "the third letter")


def test_all_of_a_filter_and_each_once(stack: Stack) -> None:
    ids = [publish_broken(stack, b"[]"), publish_broken(stack, b"null")]
    mine = {"--model": "echo", "--code": "malformed_body", "--since": "1h"}
    options = [part for pair in mine.items() for part in pair]
    for wrong in (["--code", "nothing"], ["--model", "other"], ["--since", "2999-01-01"]):
        assert [listed(stack, each, *wrong) for each in ids] == [[], []]
        assert dead_letters(stack, "replay", "--all", "--yes", *wrong).stdout == "Nothing to replay.\n"
    done = dead_letters(stack, "replay", "--all", "--yes", *options)
    assert all(f" {each} -> " in done.stdout for each in ids)
    for each in ids:
        wait_until(lambda each=each: len(listed(stack, each)) == 2, "the second letter")  # type: ignore[misc]
        assert [letter["replayed"] for letter in listed(stack, each)] == [True, False]


def test_nobody_to_ask_replays_nothing(stack: Stack) -> None:
    request_id = publish_broken(stack)
    done = dead_letters(stack, "replay", request_id, code=1)
    assert "Replay 1 dead letter?" in done.stderr
    assert "headrace: Nothing was replayed; --yes replays without asking" in done.stderr
    assert [letter["replayed"] for letter in listed(stack, request_id)] == [False]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["replay"], "Say which dead letters to replay: their places or ids, or --all"),
        (["replay", "0-0", "--all"], "Say which dead letters to replay"),
        (["replay", "0-0", "--code", "x"], "--model, --code and --since go with --all"),
        (
            ["replay", "no-such-id", "--yes"],
            "There is no dead letter 'no-such-id'; `headrace dead-letters list`",
        ),
        (["show", "3-999999"], "There is no dead letter '3-999999'"),
        (["list", "--since", "soon"], "--since is 'soon'; it must be an age such as 30m"),
    ],
)
def test_a_mistake_is_one_sentence(stack: Stack, arguments: list[str], sentence: str) -> None:
    done = dead_letters(stack, *arguments, code=1)
    assert done.stderr.startswith(f"headrace: {sentence}")
    assert done.stderr.count("\n") == 1
