"""How Headrace's objects are called in a cluster, and what they say of themselves."""

import hashlib
from typing import Any, Final

from headrace.contracts.topics import slug

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OURS: Final = "headrace"
MODEL: Final = "headrace.dev/model"
"""As a label the model's slug, cut where it is too long; as an annotation its name."""
VERSION: Final = "headrace.dev/version"
DEPLOYMENT: Final = "headrace.dev/deployment"
"""Label of the pods: the Deployment that they are of."""
CONTAINER: Final = "headrace.dev/container"
"""Annotation of the pods: which container is the worker, whatever others are put beside it."""
EPOCH: Final = "headrace.dev/epoch"
"""Annotation: of the scaler that decided last. One of an older epoch is refused."""
TEMPLATE: Final = "headrace.dev/template"
"""Annotation: digest of the operator's template that its pods were made from."""
COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation by which Kubernetes chooses who goes when there are to be fewer; the lowest first."""

SELECTOR: Final[dict[str, Any]] = {MANAGED_BY: OURS}

_LABEL_CHARS: Final = 63
_NAME_CHARS: Final = 33
"""Of the slug. A pod's name has 13 more for the version and 17 from Kubernetes, and is a label as well."""


def deployment(model: str, version: str) -> str:
    """The name of the Deployment for a version of a model."""
    return f"{_short(slug(model), _NAME_CHARS)}-{version[:12]}"


def labels(model: str, name: str) -> dict[str, str]:
    """Of the Deployment `name`, and of its pods."""
    return {MANAGED_BY: OURS, MODEL: _short(slug(model), _LABEL_CHARS), DEPLOYMENT: name}


def _short(text: str, most: int) -> str:
    """A long text ends with a digest of the whole, so that no two become one."""
    if len(text) <= most:
        return text
    return f"{text[: most - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
