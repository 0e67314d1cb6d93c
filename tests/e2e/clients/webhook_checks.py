"""Run in the environment of an unmodified receiver's library: does it take our deliveries?

Usage: `python webhook_checks.py openai|standardwebhooks`, with a JSON list of {secret, headers, body} on
standard input. Prints what was unwrapped, as a JSON list; fails when a signature does not fit, or a wrong one
does.
"""

import json
import sys


def with_openai(secret: str, headers: dict[str, str], body: str) -> dict[str, object]:
    import openai

    client = openai.OpenAI(api_key="unused", webhook_secret=secret)
    try:
        client.webhooks.unwrap(body + " ", headers)
    except openai.InvalidWebhookSignatureError:
        found = client.webhooks.unwrap(body, headers)
        return {"type": found.type, "id": found.data.id}
    raise AssertionError("a changed body was taken")


def with_standardwebhooks(secret: str, headers: dict[str, str], body: str) -> dict[str, object]:
    from standardwebhooks import Webhook, WebhookVerificationError

    webhook = Webhook(secret)
    try:
        webhook.verify(body + " ", headers)
    except WebhookVerificationError:
        found = webhook.verify(body, headers)
        return {"type": found["type"], "id": found["data"]["id"]}
    raise AssertionError("a changed body was taken")


if __name__ == "__main__":
    check = {"openai": with_openai, "standardwebhooks": with_standardwebhooks}[sys.argv[1]]
    print(json.dumps([check(each["secret"], each["headers"], each["body"]) for each in json.load(sys.stdin)]))
