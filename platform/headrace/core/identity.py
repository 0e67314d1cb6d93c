"""What a reader believes of what a request says about itself. Pure.

A request with a gateway's signature is trusted: its id and tenant are facts. Any other is a stranger's, who
may use the model but not speak for others. A reader without the secret cannot tell, and takes all at their
word.
"""

from dataclasses import dataclass
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts import identity, ids
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.topics import Topics

UNCHECKED: Final = (
    "HEADRACE_SECRET_KEY is not set: signatures cannot be checked, and what requests say of themselves is "
    "taken at its word. Set it to the gateways' secret"
)
"""To be logged once by a role that starts without the secret."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Tells gateways from strangers; `key` None cannot."""

    key: bytes | None

    @classmethod
    def from_secret(cls, secret: str | None) -> "Trust":
        """With the installation's secret, or without."""
        return cls(None if secret is None else identity.signing_key(secret))

    def judge(self, headers: dict[str, bytes], model_slug: str) -> bool:
        """Whether the request, read from a topic of this model, is trusted."""
        return self.key is None or identity.is_genuine(self.key, headers, model_slug)

    def judge_cancel(self, headers: dict[str, bytes], request_id: str) -> bool:
        """Whether the cancel of this request is trusted."""
        return self.key is None or identity.is_genuine_cancel(self.key, headers, request_id)


def believed(head: RequestHead, *, trusted: bool) -> RequestHead:
    """The head without what only a gateway may say.

    Raises:
        InvalidRequest: a stranger uses an id that looks like a gateway's; `param` is `ce_id`.
    """
    if trusted:
        return head
    if head.id.startswith(ids.PREFIX):
        raise InvalidRequest(
            f"ids that begin with {ids.PREFIX} are made by gateways; choose another {h.ID}", param=h.ID
        )
    if head.tenant is None and head.webhook is None:
        return head
    return head._replace(tenant=None, webhook=None)


def internal_reply_refusal(topics: Topics, address: ReplyAddress, *, trusted: bool) -> str | None:
    """Why the answer may not go to a topic of ours; None when it may, or when the topic is not ours."""
    if not topics.is_internal(address.topic):
        return None
    if address.topic != topics.replies:
        return f"topic {address.topic} is internal"
    if not trusted:
        return f"topic {address.topic} is for gateways"
    return None if address.partition is not None else f"topic {address.topic} needs a partition"


def may_cancel(*, cancel_trusted: bool, request_trusted: bool) -> bool:
    """Whether a cancel counts for a request: a gateway's for any, a stranger's for strangers'."""
    return cancel_trusted or not request_trusted
