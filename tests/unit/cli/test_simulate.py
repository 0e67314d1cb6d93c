"""`headrace simulate`: what it reads, prints and draws."""

import json
import time

import pytest
from typer.testing import CliRunner

from headrace.cli import arrivals, comparison, past
from headrace.cli.arrivals import Speed
from headrace.cli.main import app
from headrace.contracts.errors import SetupError
from headrace.core.simulation import Outcome

FAST = ("simulate", "--hours", "0.5", "--rate", "0.2", "--max-workers", "4")


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_policies_side_by_side():
    done = run(*FAST, "--pattern", "steady", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)
    assert [row["policy"] for row in rows] == ["headrace", "keda", "fixed", "oracle"]
    assert len({row["served"] for row in rows}) == 1
    assert all(row["gpu_hours"] > 0 for row in rows)


def test_a_fixed_number_is_there_for_as_long_as_work_comes():
    done = run(*FAST, "--pattern", "steady", "--policy", "fixed", "--fixed", "2", "--json")
    assert json.loads(done.output)[0]["gpu_hours"] == pytest.approx(2 * 0.5, abs=0.05)


def test_who_serves_nobody_lets_all_wait():
    done = run(*FAST, "--pattern", "steady", "--policy", "fixed", "--fixed", "0", "--json")
    (row,) = json.loads(done.output)
    assert (row["gpu_hours"], row["served"]) == (0, 0)
    assert row["p50_wait_s"] > 1800


def test_the_most_of_several_models_is_of_one_time():
    early, late, long = Outcome(lives=[(0, 9), (1, 9)]), Outcome(lives=[(9, 20)]), Outcome(lives=[(5, 15)])
    found = comparison.total([{"keda": each} for each in (early, late, long)])
    assert found["keda"].most == 3
    assert comparison.total([{"keda": Outcome()}])["keda"].most == 0


def test_a_table_for_people():
    done = run(*FAST, "--pattern", "bursts", "--policy", "headrace", "--models", "3")
    title, head, row = done.output.splitlines()
    assert title.startswith("bursts: ")
    assert "3 models" in title
    assert head.split()[:2] == ["policy", "gpu_hours"]
    assert row.startswith("headrace ")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_plot(tmp_path, ending):
    path = tmp_path / f"plot.{ending}"
    done = run(*FAST, "--pattern", "daily", "--plot", str(path))
    assert done.exit_code == 0, done.output
    assert path.stat().st_size > 5_000


@pytest.mark.parametrize("command", [("scaler", "replay", "chat"), ("top", "--once")])
def test_a_kafka_that_is_away_is_said(monkeypatch, command):
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(past, "_CONNECT_S", 0.2)
    done = run(*command)
    assert isinstance(done.exception, SetupError)
    assert "Kafka at 127.0.0.1:1 does not answer" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "either --arrivals FILE or --pattern NAME"),
        (("--pattern", "steady", "--arrivals", "x.csv"), "either --arrivals FILE or --pattern NAME"),
        (("--pattern", "tides"), "no pattern 'tides'; there are steady, daily"),
        (("--pattern", "steady", "--policy", "wish"), "no policy 'wish'; there are headrace, keda"),
        (("--pattern", "steady", "--cold-start", "inf"), "numbers that end"),
        (("--pattern", "steady", "--idle", "inf"), "numbers that end"),
        (("--pattern", "steady", "--models", "2", "--plot", "x.svg"), "--plot draws one model"),
        (("--arrivals", "/nowhere.csv"), "/nowhere.csv: No such file"),
        (("--pattern", "steady", "--plot", "/nowhere/plot.png"), "/nowhere/plot.png cannot be written"),
        (("--pattern", "steady", "--plot", "plot.what"), "plot.what cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, why):
    done = run("simulate", "--hours", "0.1", *arguments)
    assert isinstance(done.exception, SetupError)
    assert why in str(done.exception)


def test_recorded_arrivals(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:50.9951690,400,10\n\n"
        "2023-11-16 18:15:46.4951690,100,20\n"
    )
    assert arrivals.read(path, Speed(100.0, 10.0)) == [(0.0, 3.0), (4.5, 5.0)]
    path.write_text("0.5,100,10,more\n1.5,0,10\n")
    assert arrivals.read(path, Speed(100.0, 10.0)) == [(0.0, 2.0), (1.0, 1.0)]
    done = run("simulate", "--arrivals", str(path), "--policy", "keda")
    assert "trace.csv: 2 requests" in done.output


def test_a_mark_of_byte_order_makes_no_header_of_a_request(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbf0,100,0\n1,100,0\n")
    assert len(arrivals.read(path, Speed(100.0, 10.0))) == 2


def test_times_have_zones_and_none_has_a_summer(tmp_path, monkeypatch):
    path = tmp_path / "trace.csv"
    path.write_text("2024-05-12 06:00:00.97+05:30,0,0\n2024-05-12T00:30:02.9700000Z,0,0\n")
    assert [job.at_s for job in arrivals.read(path, Speed(1.0, 1.0))] == [0.0, 2.0]
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        path.write_text("2024-03-31 01:59:59,0,0\n2024-03-31 03:00:00,0,0\n")
        assert [job.at_s for job in arrivals.read(path, Speed(1.0, 1.0))] == [0.0, 3601.0]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"time,in,out\n", "holds no requests"),
        (b"1,2,3\nsoon,2,3\n", "trace.csv:2: not a request: 'soon,2,3'"),
        (b"1,2,3\n1,2\n", "trace.csv:2: not a request: '1,2'"),
        (b"\xff\xfe\n", "is not text"),
        (b"\n0,nan,1\n", "trace.csv:2: not a request: '0,nan,1'"),
        (b"time,in,out\n0,1,2\n1,1,-2\n", "trace.csv:3: not a request: '1,1,-2'"),
        (b"0,1,inf\n", "trace.csv:1: not a request"),
        (b"nan,1,1\n", "trace.csv:1: not a request"),
        (b"1,2\n", "trace.csv:1: not a request"),
        (b"1,2," + b"x" * 200_000, "not text: field larger than field limit"),
        (b"0,1,1\n1700000000000,1,1\n", "goes on for 19675926 days"),
    ],
)
def test_what_is_no_trace(tmp_path, text, why):
    path = tmp_path / "trace.csv"
    path.write_bytes(text)
    with pytest.raises(SetupError, match=why):
        arrivals.read(path, Speed(1.0, 1.0))
