"""Arguments that several commands take, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

ModelName = Annotated[str, typer.Argument(help="Name of the model")]
RowsFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="CSV, Parquet or NDJSON with the rows")
]
VersionNumber = Annotated[
    int | None, typer.Option("--version", help="A version; without it, production")
]
Output = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        writable=True,
        help="Write CSV to this file; without it a table is printed, or CSV into a pipe",
    ),
]


def counts(text: str, option: str) -> list[int]:
    """Whole numbers with commas between.

    Raises:
        BadParameter: they are not.
    """
    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        message = f"whole numbers with commas between are due, as 256,256, not {text!r}"
        raise typer.BadParameter(message, param_hint=f"'--{option}'") from None


def probability(text: str) -> float | str:
    """A number, or `auto`.

    Raises:
        BadParameter: it is neither.
    """
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        message = f"a number or auto is due, not {text!r}"
        raise typer.BadParameter(message, param_hint="'--p'") from None


def read_settings(*, quiet: bool = False, is_service: bool = False, **given: Any) -> Any:
    """What the environment and the options say; `quiet` commands log warnings only, unless
    the environment names a level, and only a service's log may be for machines."""
    from pydantic import ValidationError  # noqa: PLC0415

    from service.logs import configure_logging  # noqa: PLC0415
    from service.settings import Settings  # noqa: PLC0415

    try:
        settings = Settings(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        for fault in error.errors():
            name = f"DROPCAST_{str(fault['loc'][0]).upper()}"
            typer.echo(f"{name}: {fault['msg']} (it is {fault['input']!r})", err=True)
        raise typer.Exit(2) from None
    is_chosen = "log_level" in settings.model_fields_set
    form = settings.log_format
    configure_logging(
        "warning" if quiet and not is_chosen else settings.log_level,
        "text" if form == "auto" and not is_service else form,
    )
    return settings
