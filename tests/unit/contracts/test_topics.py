"""Slugs that can be read back, and the plans of topics."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.topics import LANES, REQUEST_RETENTION_MS, Lane, Topics, slug, unslug

_names = st.from_regex(
    re.compile(r"[A-Za-z0-9]+(?:[-._/][A-Za-z0-9]+){0,5}", re.ASCII), fullmatch=True
).filter(lambda name: len(name) <= 128)


@given(name=_names)
def test_slugs_can_be_read_back_but_for_case(name: str) -> None:
    assert unslug(slug(name)) == name.lower()


@given(name=_names, other=_names)
def test_different_names_have_different_slugs_but_for_case(name: str, other: str) -> None:
    assert (slug(name) == slug(other)) == (name.lower() == other.lower())


@given(name=_names, lane=st.sampled_from(LANES))
def test_a_request_topic_says_its_model_and_lane(name: str, lane: Lane) -> None:
    topics = Topics()
    topic = topics.requests(slug(name), lane)
    assert re.fullmatch(r"[a-z0-9.-]+", topic)
    assert topics.parse_requests(topic) == (slug(name), lane)


@pytest.mark.parametrize("name", ["", "-", "a--b", "a/", "/a", "a b", "ä", "a..b", "a" * 129, "a\n", "a-_b"])
def test_names_that_are_not_allowed(name: str) -> None:
    with pytest.raises(InvalidRequest, match="not allowed"):
        slug(name)


@pytest.mark.parametrize(
    "topic", ["headrace.replies", "headrace.requests.chat.slow", "other.requests.a.flex"]
)
def test_other_topics_hold_no_requests(topic: str) -> None:
    assert Topics().parse_requests(topic) is None


def test_our_topics_are_internal_and_others_are_not() -> None:
    topics = Topics("h1.")
    assert all(topics.is_internal(plan.name) for plan in topics.shared_plans())
    assert topics.is_internal("__consumer_offsets")
    assert not topics.is_internal("replies.me")


def test_two_installations_share_nothing() -> None:
    one, other = Topics("a."), Topics("b.")
    names = {plan.name for plan in (*one.shared_plans(), *one.request_plans("chat", 4))}
    assert not names & {plan.name for plan in (*other.shared_plans(), *other.request_plans("chat", 4))}


def test_each_lane_keeps_its_requests_as_long_as_the_table_says() -> None:
    topics = Topics()
    plans = {plan.name: plan for plan in topics.request_plans("chat", 12)}
    for lane in LANES:
        plan = plans[topics.requests("chat", lane)]
        assert plan.partitions == 12
        assert plan.config["retention.ms"] == str(REQUEST_RETENTION_MS[lane])
        assert plan.config["message.timestamp.type"] == "LogAppendTime"
