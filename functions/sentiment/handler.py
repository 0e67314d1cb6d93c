"""Whether a text speaks well or badly of something."""

from typing import Any

from features import places

from headrace.sdk import Context


def before(body: dict[str, Any], _: Context) -> dict[str, Any]:
    """Texts in, the model's tensor out."""
    return body | {"input": {"places": [places(body["input"]["text"])]}}


def after(answer: dict[str, Any], _: Context) -> dict[str, Any]:
    """The model's tensor in, a word and a number out."""
    (positive,) = answer["output"]["positive"]
    label = "positive" if positive >= 0.5 else "negative"
    return answer | {"output": {"label": label, "score": round(max(positive, 1 - positive), 4)}}
