"""Answers that feedback can be compared with, and how it compared."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "answers",
        sa.Column("number", number, primary_key=True, autoincrement=False),
        sa.Column("request_id", sa.String(), nullable=False, index=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("coverage", sa.Double()),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("claims", sa.LargeBinary(), nullable=False),
        sa.Column("scored", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", time, nullable=False),
    )
    op.create_table(
        "answer_rows",
        sa.Column(
            "answer",
            number,
            sa.ForeignKey("answers.number", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("row", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("row_id", sa.String(), nullable=False, index=True),
    )
    op.create_table(
        "feedback",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("coverage", sa.Double()),
        sa.Column("error", sa.Double(), nullable=False),
        sa.Column("covered", sa.Boolean()),
        sa.Column("nll", sa.Double()),
        sa.Column("score", sa.Double()),
        sa.Column("confidence", sa.Double()),
        sa.Column("bin", sa.Integer()),
        sa.Column("created_at", time, nullable=False),
        sa.Index("ix_feedback_group", "model", "version", "mode", "number"),
    )
