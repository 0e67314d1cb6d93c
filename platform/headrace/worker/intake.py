"""From a record to a call, or to the reason why not."""

from typing import Final, NamedTuple

from headrace.contracts import bodies, formats, requests
from headrace.contracts.errors import HeadraceError, InvalidRequest, MalformedBody, RequestExpired
from headrace.contracts.events import ModelDeployed
from headrace.contracts.formats import PLAIN, Format
from headrace.contracts.requests import CHAT, RequestHead
from headrace.contracts.responses import ResponseBody
from headrace.core import admission
from headrace.core.deadlines import expires_at_s
from headrace.core.identity import Trust, believed
from headrace.core.ports import Call, Record
from headrace.core.responses import Responder, chat_body

ANYBODY: Final = Trust(None)
"""Nothing can be checked, so everybody is believed."""


class Job(NamedTuple):
    """A request that may run. `expires_at_s`: when it must be over, at the latest. `form`: of its answer.

    responder: speaks the Responses API for an engine that is asked for a chat.
    """

    record: Record
    head: RequestHead
    call: Call
    expires_at_s: float
    trusted: bool = True
    form: Format = PLAIN
    responder: Responder | None = None


class Refusal(NamedTuple):
    """A request that may not run.

    dead_letter: it could not even be read, so the original bytes are kept for a person to look at.
    """

    record: Record
    head: RequestHead
    error: HeadraceError
    dead_letter: bool
    trusted: bool = False


def read(record: Record, deployed: ModelDeployed, now_s: float, trust: Trust = ANYBODY) -> Job | Refusal:
    """Decide whether the record can run on this model. Pure: the shell tells the time."""
    trusted = trust.judge(record.headers, deployed.slug)
    place = record.place
    default_id = f"{place.topic}-{place.partition}-{place.offset}"
    try:
        head = believed(requests.read(record.headers, default_id=default_id), trusted=trusted)
    except InvalidRequest as error:
        head = requests.salvaged(record.headers, default_id=default_id)
        return Refusal(record, head, error, dead_letter=True)
    try:
        return _job(record, head, deployed, now_s, trusted=trusted)
    except HeadraceError as error:
        return Refusal(record, head, error, isinstance(error, MalformedBody), trusted)


def _job(record: Record, head: RequestHead, deployed: ModelDeployed, now_s: float, *, trusted: bool) -> Job:
    end_s = expires_at_s(record, head, deployed)
    if end_s <= now_s:
        raise RequestExpired("The request's deadline passed before a worker could start it")
    value = record.value or b""
    path = head.path or deployed.manifest.serves[0]
    admission.check_path(deployed, path)
    admission.check_size(deployed, len(value))
    body = bodies.parse(path, value)
    admission.check_body(deployed, body)
    created_s = int(record.timestamp_ms / 1000)
    adapter = admission.adapter(deployed, body.model)
    name = deployed.name if adapter is None else f"{deployed.name}:{adapter}"
    responder = None
    if isinstance(body, ResponseBody):
        responder = Responder(head.id, value, name, created_s)
        path, value = CHAT, chat_body(body)
        body = bodies.parse(path, value)
    call = Call(head.id, name, path, value, body, created_s, deployed.version, adapter)
    is_plain = body.stream or responder is not None
    form = PLAIN if is_plain else formats.choose(head.accept, deployed.manifest.formats)
    return Job(record, head, call, end_s, trusted, form, responder)
