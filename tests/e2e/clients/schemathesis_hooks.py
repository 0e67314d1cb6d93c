"""Loaded by schemathesis: every second request is for something that is there, so that it gets past the door.

Run in schemathesis' own environment; the names come as variables.
"""

import os

import hypothesis
import schemathesis

_MODEL = os.environ["CHECKED_MODEL"]
_JOB = os.environ["CHECKED_JOB"]
_count = 0

# Schemathesis climbs towards requests that are accepted. Hypothesis supposes that a test answers the same
# twice, which a running service does not; its climb then ends in an IndexError. So ours are random.
hypothesis.target = lambda *_, **__: 0.0


def _every_second() -> bool:
    global _count  # noqa: PLW0603
    _count += 1
    return _count % 2 == 0


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    for name, value in (("model", _MODEL), ("id", _JOB)):
        if path_parameters and name in path_parameters and _every_second():
            path_parameters[name] = value
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and "model" in body and _every_second():
        body["model"] = _MODEL
    return body
