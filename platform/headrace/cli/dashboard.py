"""`headrace dashboard`: the Grafana dashboard of this release."""

import orjson
import typer


def dashboard() -> None:
    """Print a Grafana dashboard for Headrace's metrics, to import into Grafana."""
    from headrace.telemetry.dashboard import dashboard as made  # noqa: PLC0415

    document = orjson.dumps(made(), option=orjson.OPT_INDENT_2)
    typer.echo(document.decode())
