"""`headrace new`: a function to begin with, that works as it is."""

from pathlib import Path
from typing import Annotated, Final

import typer

from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.topics import slug

app = typer.Typer(no_args_is_help=True, help="Begin something new.")

_MANIFEST: Final = """\
schema: headrace.function/v1
name: {name} # what callers put in "model"
description: Counts the words of a text.
engine:
  kind: python # runs `predict` of handler.py
  args:
    slots: 8 # requests at once
# JSON Schemas of `input` and `output`; what does not fit is refused before it is queued.
parameters:
  type: object
  properties:
    text: {{ type: string }}
  required: [text]
  additionalProperties: false
result:
  type: object
  properties:
    words: {{ type: integer }}
  required: [words]
limits:
  deadline_s: 60 # who waits, waits so long; a job may run so long
scaling:
  min_workers: 1
  max_workers: 1
"""
_HANDLER: Final = '''\
"""The code of the function {name}."""

from pydantic import BaseModel

from headrace.sdk import Context


class Input(BaseModel):
    """What a caller sends in `input`."""

    text: str


def predict(given: Input, context: Context) -> dict[str, int]:
    """What the caller gets in `output`. `async def` and generators, which are streamed, do as well."""
    return {{"words": len(given.text.split())}}
'''
_README: Final = """\
# {name}

```console
$ headrace up --functions {folder} --watch
$ curl http://127.0.0.1:8080/v1/predictions -H 'content-type: application/json' \\
    -d '{{"model": "{name}", "input": {{"text": "one two three"}}}}'
```
"""


@app.command("function")
def function(
    name: Annotated[str, typer.Argument(help="What callers put in `model`; also the folder's name.")],
    into: Annotated[
        Path | None,
        typer.Option(help="Where its folder goes; default: functions/ if there is one, else here."),
    ] = None,
) -> None:
    """Make a folder with a manifest, a handler and a README."""
    try:
        slug(name)
    except InvalidRequest as error:
        raise SetupError(error.message) from None
    here = Path("functions") if Path("functions").is_dir() else Path()
    folder = (into or here) / name.rpartition("/")[2]
    if folder.exists():
        raise SetupError(f"{folder} is there already; choose another name or --into another folder")
    folder.mkdir(parents=True)
    for file, text in (("function.yaml", _MANIFEST), ("handler.py", _HANDLER), ("README.md", _README)):
        (folder / file).write_text(text.format(name=name, folder=folder))
    typer.echo(f"made {folder}; serve it with: headrace up --functions {folder} --watch")
