"""The echo engine, by the conformance suite and by what is its own."""

import pytest
from tests.contract.engines.conformance import Abilities, Call, Conformance, ask, chat

from headrace.core.ports import Engine
from headrace.engines.echo import EchoArgs, EchoEngine


async def _idle(engine: Engine) -> None:
    """Nothing runs in it outside of the callers' tasks."""


class TestEcho(Conformance):
    """At once."""

    abilities = Abilities(idle=_idle, has_logprobs=False, long_prompt_words=None)
    args = EchoArgs(slots=4)

    @pytest.fixture
    def engine(self) -> EchoEngine:
        return EchoEngine(self.args)

    async def test_it_answers_with_the_last_user_message(self, engine: EchoEngine) -> None:
        text = "  white\n\nspace stays\tas it is "
        assert (await ask(engine, chat(text, stream=True))).streamed_text == text

    def endless(self, number: int) -> Call:
        return chat(f"{number} {self.prompt * 100}", max_tokens=1000)


class TestEchoInSteps(TestEcho):
    """As a batched LLM."""

    args = EchoArgs(slots=4, token_ms=1, prefill_ms=1)


class TestEchoInOwnSteps(TestEcho):
    """As several LLMs."""

    args = EchoArgs(slots=4, token_ms=1, step_batching=False)
