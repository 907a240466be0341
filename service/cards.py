"""Cards as lists have them: without what is only for one version to be looked at."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.tables import Version

# Most of a card: rows of the table, residuals, curves.
LEFT_OUT = "report"


def brief_cards(session: Session, model: str) -> list[dict[str, Any]]:
    """Of a model's versions, newest first."""
    cards: sa.ColumnElement[Any] = sa.type_coerce(Version.card, sa.JSON)
    if session.get_bind().dialect.name == "sqlite":
        # So that it is not read into objects first. PostgreSQL would change the order of names.
        cards = sa.type_coerce(sa.func.json_remove(Version.card, f"$.{LEFT_OUT}"), sa.JSON)
    query = sa.select(cards).where(Version.model == model)
    newest_first = session.scalars(query.order_by(Version.version.desc()))
    # One at a time: all reports together would be most of the memory, only to be left out.
    return [
        {name: value for name, value in card.items() if name != LEFT_OUT}
        for card in newest_first.yield_per(1)
    ]
