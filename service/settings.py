"""Every setting, read from the environment once, where a process starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.environment import (
    absolute,
    is_loopback,
    known_database,
    known_rate,
    sqlalchemy_url,
)


class Settings(BaseSettings):
    """Each field is the environment variable `DROPCAST_` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="DROPCAST_", frozen=True, extra="forbid")

    home: Annotated[Path, Field(description="Folder of all state: database, datasets, models")] = (
        Path("var")
    )
    database_url: Annotated[
        str | None,
        Field(description="`postgresql://…` for several machines; without it SQLite in `HOME`"),
    ] = None
    storage: Annotated[
        str | None,
        Field(
            description="`s3://bucket/prefix`: where datasets and model versions lie; without "
            "it in `HOME`"
        ),
    ] = None
    keep_versions: Annotated[
        int | None,
        Field(
            ge=0,
            description="Newest versions of a model that stay without an alias, older ones go; "
            "without it all stay",
        ),
    ] = None
    checkpoint_days: Annotated[
        float,
        Field(ge=0, description="How long a failed or cancelled job can resume where it was"),
    ] = 7.0
    host: Annotated[str, Field(description="Address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on")] = 8000
    keys: Annotated[
        Literal["auto", "required", "off"],
        Field(
            description="`auto`: requests need a key unless `HOST` is a loopback address; "
            "`required`: they do anyway; `off`: whoever reaches the port may do everything"
        ),
    ] = "auto"
    rate_limit: Annotated[
        str | None,
        Field(
            description="Requests of one key, or of one client address where there are no keys, "
            "to one process: `100/second`, or several as `20/second;600/minute`; more get 429"
        ),
    ] = None
    cors_origins: Annotated[
        str | None,
        Field(
            description="Origins whose pages may call the API from a browser, with commas "
            "between; `*` for all"
        ),
    ] = None
    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|cuda|cuda:(0|[1-9]\d{0,2}))$",
            description="`auto`, `cpu`, `cuda` or `cuda:N`: where requests are computed; a job "
            "may name its own",
        ),
    ] = "auto"
    workers: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            description="API processes that share the port; each has limits and "
            "loaded versions of its own",
        ),
    ] = 1
    threads: Annotated[
        int | None,
        Field(
            ge=1,
            description="Threads of one computation; without it all processors it may use, shared "
            "out among the API processes",
        ),
    ] = None
    examples: Annotated[
        bool, Field(description="Train the two example models if there are no models")
    ] = True
    log_level: Annotated[
        str, Field(pattern=r"^(debug|info|warning|error)$", description="Least level logged")
    ] = "info"
    log_format: Annotated[
        str,
        Field(
            pattern=r"^(auto|json|text)$",
            description="`json`, `text`, or `auto`: text at a terminal, else JSON",
        ),
    ] = "auto"
    tracing: Annotated[
        bool,
        Field(
            description="Send traces of requests by OpenTelemetry (`dropcast[tracing]`), as the "
            "standard variables `OTEL_*` say"
        ),
    ] = False

    max_body_bytes: Annotated[
        int, Field(ge=1024, description="Largest request body, datasets aside")
    ] = 16 * 2**20
    max_dataset_bytes: Annotated[int, Field(ge=1024, description="Largest dataset")] = 2**30
    max_dataset_rows: Annotated[
        int, Field(ge=1, le=200_000_000, description="Most rows of a dataset")
    ] = 100_000_000
    max_dataset_columns: Annotated[
        int, Field(ge=1, le=10_000, description="Most columns of a dataset")
    ] = 10_000
    max_cell_bytes: Annotated[
        int, Field(ge=1, le=2**24, description="Longest text in one cell of a dataset")
    ] = 2**20
    max_dataset_seconds: Annotated[
        float, Field(gt=0, description="Longest time to receive a dataset, and again to check it")
    ] = 900.0
    max_artifact_bytes: Annotated[
        int, Field(ge=1024, description="Largest artifact that is uploaded or imported")
    ] = 2**29
    max_rows: Annotated[int, Field(ge=1, description="Most rows of one inference request")] = 10_000
    max_returned_samples: Annotated[
        int,
        Field(ge=1, description="Most sample values in one answer: T · N · C, and masks shown"),
    ] = 1_000_000
    max_work: Annotated[
        int,
        Field(
            ge=1,
            description="Most work of one inference request, in multiply-adds: T · N · (weights "
            "+ 1,000 + 25,000 · quantiles); the default is about a minute of one core",
        ),
    ] = 25 * 10**11
    max_waiting: Annotated[
        int, Field(ge=1, description="Requests that may wait for computation; more get 503")
    ] = 64
    max_requests: Annotated[
        int,
        Field(ge=1, description="Requests under way in one process, streams too; more get 503"),
    ] = 512
    max_connections: Annotated[
        int, Field(ge=1, description="Connections to one process, idle ones too; more get 503")
    ] = 1000
    max_held_bytes: Annotated[
        int,
        Field(
            ge=1024,
            description="Bytes of JSON and tensor bodies in memory at a time, of all requests; "
            "more get 503",
        ),
    ] = 64 * 2**20
    request_seconds: Annotated[
        float,
        Field(gt=0, description="Longest wait and computation of one inference; then 503"),
    ] = 120.0
    receive_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Time for a request's head, and for its body beyond a second for each "
            "1,000 bytes; then 408",
        ),
    ] = 20.0
    max_queued_jobs: Annotated[
        int, Field(ge=1, description="Training jobs that may wait; more get 503")
    ] = 100
    max_loaded_versions: Annotated[
        int, Field(ge=1, description="Model versions held in memory; the oldest unused one goes")
    ] = 64

    worker_id: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9_-]{2,63}$",
            description="Name of this worker, its own among all workers and the same after a "
            "restart: by it the worker knows at once which jobs it left",
        ),
    ] = "worker-1"
    worker_concurrency: Annotated[
        int, Field(ge=1, description="Jobs one worker runs at a time")
    ] = 1
    worker_lost_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="A worker that was not heard of for so long loses its jobs to the others",
        ),
    ] = 10.0
    gpu_slots: Annotated[
        int, Field(ge=1, description="Jobs that may use one GPU of a machine at a time")
    ] = 1
    max_job_memory_bytes: Annotated[
        int | None,
        Field(
            ge=1,
            description="Most memory of one job's process; beyond it the job fails. Without it "
            "four fifths of what the machine or the container has",
        ),
    ] = None
    checkpoint_seconds: Annotated[
        float, Field(ge=0, description="Least time between two checkpoints of a job")
    ] = 5.0
    max_job_seconds: Annotated[
        float, Field(gt=0, description="Longest run of one job; beyond it the job fails")
    ] = 86_400.0
    shutdown_seconds: Annotated[
        float, Field(ge=0, description="Time for requests under way when told to stop")
    ] = 20.0

    metrics_folder: Annotated[
        Path | None,
        Field(
            description="Folder where API processes behind one address add up what `/metrics` "
            "shows; without it each start of the service has one of its own"
        ),
    ] = None
    feedback_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of inference requests whose answers are remembered, so that "
            "feedback can be compared with them; 0 is off. Inputs are not kept",
        ),
    ] = 1.0
    feedback_days: Annotated[
        float, Field(gt=0, description="How long answers are remembered for feedback")
    ] = 30.0
    feedback_bytes: Annotated[
        int,
        Field(ge=2**16, description="Most bytes of answers remembered; the oldest go first"),
    ] = 64 * 2**20
    feedback_window: Annotated[
        int,
        Field(
            ge=10,
            description="Rows with feedback, the last ones of each version and mode, that the "
            "live figures are of",
        ),
    ] = 1000
    drain_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="Time after SIGTERM in which `/health/ready` says 503 and everything is "
            "still answered, so that load balancers turn away first",
        ),
    ] = 1.0

    _check_rate = field_validator("rate_limit")(known_rate)
    _check_database = field_validator("database_url")(known_database)
    _make_absolute = field_validator("home")(absolute)

    @property
    def needs_keys(self) -> bool:
        """Whether requests need a key."""
        return self.keys == "required" or (self.keys == "auto" and not self.is_on_loopback)

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can reach the port."""
        return is_loopback(self.host)

    @property
    def allowed_origins(self) -> list[str]:
        """`cors_origins`, one by one."""
        return [origin.strip() for origin in (self.cors_origins or "").split(",") if origin.strip()]

    @property
    def database(self) -> str:
        """The database's address as SQLAlchemy reads it."""
        if self.database_url is None:
            return f"sqlite:///{self.home / 'dropcast.db'}"
        return sqlalchemy_url(self.database_url)

    @property
    def job_folder(self) -> Path:
        """Where running jobs keep checkpoints."""
        return self.home / "jobs"
