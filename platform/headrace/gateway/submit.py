"""From a body to a record on a request topic: check, admit, name, publish."""

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from itertools import count
from typing import Final

from headrace.contracts import ids, openai, requests
from headrace.contracts.errors import HeadraceError, InvalidRequest, Unavailable
from headrace.contracts.events import Cancel, ModelDeployed
from headrace.contracts.ids import RequestId
from headrace.contracts.openai import Body
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.topics import Lane, Topics
from headrace.core import admission
from headrace.core.ports import Outgoing, Publisher, Receipt
from headrace.gateway.directory import Directory
from headrace.gateway.replies import Replies, Waiting, WaitingStream
from headrace.settings import GatewaySettings

_log = logging.getLogger(__name__)

_ENTROPY_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this gateway is. `key` signs request ids."""

    source: str
    key: bytes
    reply: ReplyAddress
    topics: Topics


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that may be queued."""

    model: ModelDeployed
    path: str
    body: Body
    value: bytes

    @property
    def lane(self) -> Lane:
        """Where it is queued."""
        return admission.lane(self.body)


class Submitter:
    """Queues requests for callers who wait here."""

    def __init__(
        self, settings: GatewaySettings, identity: Identity, directory: Directory, publisher: Publisher
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._directory = directory
        self._publisher = publisher
        self._entropy = _Entropy()
        self._round = count()
        self._cancelling: set[asyncio.Task[None]] = set()
        self.replies = Replies(self.cancel)
        self._loop = asyncio.get_running_loop()

    def check(self, path: str, value: bytes) -> Checked:
        """Check a body.

        Raises:
            InvalidRequest: the body, the model or the path is wrong.
            Overloaded: too many wait already.
        """
        body = openai.parse(path, value)
        if body.model is None:
            raise InvalidRequest("Field 'model' is required", param="model")
        model = self._directory.model(body.model)
        admission.check_path(model, path)
        admission.check_size(model, len(value))
        admission.check_body(model, body)
        admission.check_load(len(self.replies), self._settings.max_waiting)
        return Checked(model, path, body, value)

    async def submit(self, checked: Checked) -> Waiting:
        """Publish; returns who waits for the answer. Whoever gets it calls `replies.remove` in the end.

        Raises:
            Unavailable: Kafka did not take the record; nothing is queued.
        """
        model, lane = checked.model, checked.lane
        partition = next(self._round) % model.partitions
        now_s = time.time()
        what = RequestId(int(now_s * 1000), ids.model_tag(model.slug), lane, partition)
        request_id = ids.mint(self._identity.key, what, self._entropy.take(ids.RANDOM_BYTES))
        wait_s = min(self._settings.reply_timeout_s, model.manifest.limits.deadline_s)
        kind = WaitingStream if checked.body.stream else Waiting
        waiting = kind(request_id, self._loop.time() + wait_s, self._loop)
        head = RequestHead(
            id=request_id,
            source=self._identity.source,
            path=checked.path,
            reply=self._identity.reply,
            expires_at_s=now_s + wait_s,
        )
        topic = self._identity.topics.requests(model.slug, lane)
        record = Outgoing(topic, checked.value, None, requests.write(head), partition)
        # Before it is sent: the answer may be faster than our next step.
        self.replies.add(waiting)
        try:
            receipt = await self._publisher.send(record)
        except BaseException:
            self.replies.remove(waiting)
            raise
        receipt.add_done_callback(lambda done: _confirmed(waiting, done))
        return waiting

    def cancel(self, request_id: str) -> None:
        """Tell the workers to stop; best effort, in the background."""
        task = asyncio.create_task(self._cancel(request_id))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancel(self, request_id: str) -> None:
        event = Cancel(request_id=request_id, reason="the caller left", sent_at_s=time.time())
        try:
            await self._publisher.send(
                Outgoing(self._identity.topics.control, event.encode(), request_id.encode())
            )
        except HeadraceError as error:
            _log.warning("cancel of %s not sent: %s", request_id, error)


def _confirmed(waiting: Waiting, done: Receipt) -> None:
    error = done.exception()
    if error is not None:
        waiting.fail(error if isinstance(error, HeadraceError) else Unavailable(f"Kafka: {error!r}"))


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
