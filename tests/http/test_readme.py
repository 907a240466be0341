"""The README's settings table is the settings; tests/e2e runs its commands."""

from pathlib import Path

import pytest

from service.schemas import UncertaintyRequest
from service.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def row_of(name: str) -> str:
    """The table's row for a setting, from its declaration."""
    field = Settings.model_fields[name]
    default = "" if field.default is None else f"`{shown(field.default)}`"
    return f"| `DROPCAST_{name.upper()}` | {default} | {field.description} |"


def shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_a_row_of_the_table(name: str) -> None:
    assert row_of(name) in README, f"the README lacks this row:\n{row_of(name)}"


def test_no_row_is_left_of_a_setting_that_is_gone() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `DROPCAST_")]
    assert rows == [row_of(name) for name in Settings.model_fields]


def test_every_field_of_uncertainty_is_a_row() -> None:
    for name in UncertaintyRequest.model_fields:
        if name != "instances":
            assert f"| `{name}` |" in README
