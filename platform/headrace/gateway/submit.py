"""From a body to a record on a request topic: check, admit, name, publish."""

import asyncio
import logging
import os
import time
from functools import partial
from typing import Final, NamedTuple

from headrace.contracts import bodies, ids
from headrace.contracts import headers as h
from headrace.contracts.bodies import Body
from headrace.contracts.errors import BodyTooLarge, HeadraceError, InternalError, InvalidRequest, Unavailable
from headrace.contracts.events import Cancel, ModelDeployed
from headrace.contracts.formats import choose
from headrace.contracts.identity import sign_cancel
from headrace.contracts.ids import RequestId
from headrace.contracts.responses import ResponseBody
from headrace.contracts.topics import Lane
from headrace.core import admission
from headrace.core.deadlines import patience_s
from headrace.core.ports import Outgoing, Place, Publisher, Receipt
from headrace.gateway.channel import BOTH, WAITED_FOR, Channel, Identity, Named, Way
from headrace.gateway.directory import Directory
from headrace.gateway.gate import Gate
from headrace.gateway.queues import Queues
from headrace.gateway.replies import Replies
from headrace.gateway.tenants import NOBODY, Account
from headrace.gateway.terms import PLAIN, Terms
from headrace.gateway.waiting import Waiting, WaitingStream
from headrace.settings import GatewaySettings
from headrace.telemetry.gateway import UNTOLD, Exchange

_log = logging.getLogger(__name__)

_ENTROPY_BLOCK: Final = 4096
_LAST_CANCELS_S: Final = 2.0


class Asked(NamedTuple):
    """What a caller sent. `model`: the name, where it is not in the body. `accept`: the header."""

    path: str
    value: bytes
    model: str | None = None
    tenant: bytes | None = None
    accept: bytes | None = None
    terms: Terms = PLAIN
    webhook: bytes | None = None
    account: Account | None = None


class Checked(NamedTuple):
    """A request that may be queued. `accept`: the form of the answer, if the model has a choice."""

    model: ModelDeployed
    path: str
    body: Body
    value: bytes
    tenant: bytes | None = None
    accept: bytes | None = None
    terms: Terms = PLAIN
    webhook: bytes | None = None
    account: Account = NOBODY

    @property
    def is_kept(self) -> bool:
        """Whether its answer is kept, whoever waits for it."""
        wants = self.terms.is_job or self.terms.key is not None or self.webhook is not None
        return wants or (isinstance(self.body, ResponseBody) and bool(self.body.background))

    @property
    def is_stored(self) -> bool:
        """Whether who waits for it may fetch it later all the same."""
        return isinstance(self.body, ResponseBody) and self.body.is_stored


class Minted(NamedTuple):
    """A request that has its name, but is not in Kafka. `record` is what will be."""

    request_id: str
    channel: Channel
    record: Outgoing
    expires_at_s: float


class Submitter:
    """Queues requests: for callers who wait here, and jobs."""

    def __init__(
        self, settings: GatewaySettings, identity: Identity, directory: Directory, publisher: Publisher
    ) -> None:
        self.settings = settings
        self._identity = identity
        self._directory = directory
        self._publisher = publisher
        self._channels: dict[tuple[str, Lane, str, Way], Channel] = {}
        self._entropy = _Entropy()
        self._cancelling: set[asyncio.Task[None]] = set()
        self.replies = Replies(settings.keepalive_s, self.cancel)
        self._loop = asyncio.get_running_loop()
        queues = Queues(settings, lambda name: directory.rate_per_s(name, time.time()))
        self.gate = Gate(settings, queues, self._loop.time)

    def check(self, asked: Asked) -> Checked:
        """Check a request.

        Raises:
            InvalidRequest: the body, the model or the path is wrong.
            Overloaded: too many wait already.
        """
        path, value, name, tenant, accept, terms, webhook, account = asked
        body = bodies.parse(path, value)
        name = name or body.model
        if name is None:
            raise InvalidRequest("Field 'model' is required", param="model")
        model = self._directory.model(name)
        admission.check_path(model, path)
        admission.check_size(model, len(value))
        admission.check_body(model, body)
        admission.check_load(len(self.replies), self.settings.max_waiting)
        form = _form(model, body, accept)
        return Checked(model, path, body, value, tenant, form, terms, webhook, account or Account(tenant))

    def mint(
        self, checked: Checked, way: Way, exchange: Exchange = UNTOLD, request_id: str | None = None
    ) -> Minted:
        """Name a request; `request_id` for one that has its name already."""
        channel = self._channel(checked, way)
        partition = channel.next_partition()
        now_s = time.time()
        if request_id is None:
            what = RequestId(int(now_s * 1000), channel.model_tag, channel.lane, partition)
            entropy = self._entropy.take(ids.RANDOM_BYTES)
            request_id = ids.mint(self._identity.key, what, entropy, checked.tenant or b"")
        expires_at_s = now_s + self._patience_s(checked, way, channel.lane)
        trace = exchange.publish(request_id, channel.topic, checked.model.name)
        named = Named(
            request_id.encode(), expires_at_s, checked.tenant, checked.accept, trace, checked.webhook
        )
        record = channel.record(named, checked.value, partition)
        return Minted(request_id, channel, record, expires_at_s)

    async def submit(self, checked: Checked, exchange: Exchange = UNTOLD) -> Waiting:
        """Publish; returns who waits for the answer. Whoever gets it calls `release` in the end.

        Raises:
            OverLimit: the tenant has reached a limit, or the queue is full; nothing is queued.
            Unavailable: Kafka did not take the record; nothing is queued.
            BodyTooLarge: Kafka takes no record of this size.
        """
        waiting, receipt = await self._send(
            checked, self.mint(checked, BOTH if checked.is_stored else WAITED_FOR, exchange)
        )
        receipt.add_done_callback(partial(self._confirmed, waiting, exchange))
        return waiting

    async def submit_kept(self, checked: Checked, minted: Minted, exchange: Exchange = UNTOLD) -> Waiting:
        """The same for a request whose answer is kept; it is in Kafka when this returns.

        Raises:
            OverLimit, BodyTooLarge: as `submit`.
            Unavailable: Kafka did not confirm the record, so it was cancelled.
        """
        waiting, receipt = await self._send(checked, minted)
        try:
            await self._certain(minted, receipt, exchange)
        except BaseException:
            self.release(checked, waiting)
            raise
        return waiting

    async def enqueue(self, checked: Checked, minted: Minted, exchange: Exchange = UNTOLD) -> Place:
        """Publish a job, for which nobody waits; it is in Kafka when this returns.

        Raises as `submit_kept` does.
        """
        self.gate.pass_by(checked.model, checked.account, len(checked.value))
        receipt = await self._publisher.send(minted.record)
        return await self._certain(minted, receipt, exchange)

    async def _send(self, checked: Checked, minted: Minted) -> tuple[Waiting, Receipt]:
        wait_s = min(self.settings.reply_timeout_s, minted.expires_at_s - time.time())
        until_s = self._loop.time() + wait_s
        if checked.body.stream:
            usage = checked.body.wants_usage_chunk
            waiting: Waiting = WaitingStream(minted.request_id, until_s, self._loop, usage=usage)
        else:
            waiting = Waiting(minted.request_id, until_s, self._loop)
        waiting.standing = self.gate.enter(
            checked.model, checked.account, len(checked.value), is_kept=minted.channel.way.kept
        )
        # Before it is sent: the answer may be faster than our next step.
        self.replies.add(waiting)
        try:
            return waiting, await self._publisher.send(minted.record)
        except BaseException:
            self.release(checked, waiting)
            raise

    def _patience_s(self, checked: Checked, way: Way, lane: Lane) -> float:
        """How long the request may take, from now."""
        if way.kept and checked.is_kept:
            limit_s = patience_s(lane)
        else:
            limit_s = min(self.settings.reply_timeout_s, checked.model.manifest.limits.deadline_s)
        return min(limit_s, checked.terms.cancel_after_s or limit_s)

    def release(self, checked: Checked, waiting: Waiting) -> None:
        """The request is over, and its caller waits no longer."""
        self.replies.remove(waiting)
        done = waiting.future.done() and not waiting.future.cancelled()
        answer = waiting.future.result().value if done else b""
        is_kept = checked.is_kept or checked.is_stored
        self.gate.leave(checked.model, checked.account, len(checked.value), answer, is_kept=is_kept)

    def cancel(self, request_id: str, reason: str) -> None:
        """Tell the workers to stop; best effort, in the background."""
        task = asyncio.create_task(self._cancel(request_id, reason))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def ask_to_cancel(self, request_id: str, reason: str) -> None:
        """The same; it is in Kafka when this returns.

        Raises:
            Unavailable: Kafka did not take it.
        """
        self.gate.answers()
        await (await self._publisher.send(self._cancelling_record(request_id, reason)))

    async def stop(self) -> None:
        """Fail whoever still waits, and see the cancels off, if Kafka takes them soon."""
        self.give_up()
        if self._cancelling:
            await asyncio.wait(self._cancelling, timeout=_LAST_CANCELS_S)

    def give_up(self) -> None:
        """Fail whoever still waits."""
        error = InternalError("The gateway stopped before the answer came; the request was cancelled")
        self.replies.give_up(error)

    def _channel(self, checked: Checked, way: Way) -> Channel:
        lane = admission.lane(checked.body)
        key = checked.model.name, lane, checked.path, way
        channel = self._channels.get(key)
        if channel is None or channel.deployed is not checked.model:
            channel = Channel(self._identity, checked.model, lane, checked.path, way)
            self._channels[key] = channel
        return channel

    def _confirmed(self, waiting: Waiting, exchange: Exchange, receipt: Receipt) -> None:
        error = receipt.exception()
        exchange.published(error)
        if error is None or waiting.future.done():
            return
        if isinstance(error, BodyTooLarge):
            waiting.fail(error, queued=False)
            return
        # It may be written all the same; the caller is told to ask again, so this one must not run.
        _log.warning("request %s: not confirmed: %s", waiting.request_id, error)
        self.cancel(waiting.request_id, "Kafka did not confirm it")
        sentence = "Kafka did not confirm the request, so it was cancelled: ask again in a moment"
        waiting.fail(Unavailable(sentence), queued=False)

    async def _certain(self, minted: Minted, receipt: Receipt, exchange: Exchange) -> Place:
        try:
            place = await receipt
        except BaseException as error:
            exchange.published(error)
            if not isinstance(error, BodyTooLarge):
                # It may be written all the same; the caller is told to ask again, so this one must not run.
                self.cancel(minted.request_id, "Kafka did not confirm it")
            raise
        exchange.published(None)
        return place

    async def _cancel(self, request_id: str, reason: str) -> None:
        try:
            await self.ask_to_cancel(request_id, reason)
        except HeadraceError as error:
            _log.warning("cancel of %s not sent: %s", request_id, error)

    def _cancelling_record(self, request_id: str, reason: str) -> Outgoing:
        event = Cancel(request_id=request_id, reason=reason, sent_at_s=time.time())
        key = request_id.encode()
        signed = [(h.SIGNATURE, sign_cancel(self._identity.key, key))]
        return Outgoing(self._identity.topics.control, event.encode(), key, signed)


def _form(model: ModelDeployed, body: Body, accept: bytes | None) -> bytes | None:
    """The media type that the worker is to give; None when there is no choice."""
    offered = model.manifest.formats
    if len(offered) == 1 or body.stream:
        return None
    return choose(None if accept is None else accept.decode("latin-1"), offered).type.encode()


class _Entropy:
    """Random bytes, fetched in blocks: a system call for each request would cost more than its id."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if self._at + size > len(self._block):
            self._block, self._at = os.urandom(_ENTROPY_BLOCK), 0
        self._at += size
        return self._block[self._at - size : self._at]
