"""Workers that are watched, and jobs that are leased to them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
    )
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("model", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("worker", sa.String()))
        table.add_column(sa.Column("device", sa.String()))
        table.add_column(sa.Column("claimed_at", sa.DateTime(timezone=True)))
        table.add_column(sa.Column("losses", sa.Integer(), nullable=False, server_default="0"))
    columns = (sa.column("id", sa.String), sa.column("model", sa.String))
    jobs = sa.table("jobs", *columns, sa.column("request", sa.JSON))
    connection = op.get_bind()
    for job_id, request in list(connection.execute(sa.select(jobs.c.id, jobs.c.request))):
        changed = sa.update(jobs).where(jobs.c.id == job_id).values(model=request["model"])
        connection.execute(changed)
    op.create_index("ix_jobs_model_claimed_at", "jobs", ["model", "claimed_at"])
