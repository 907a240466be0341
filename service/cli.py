"""The `dropcast` command. What a command needs is imported when it runs, so that `--help` and
the light processes stay light."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from service.commands.options import (
    ModelName,
    Output,
    RowsFile,
    VersionNumber,
    counts,
    probability,
    read_settings,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Predictions with honest uncertainty: train, serve and ask dropout networks. Settings "
    "come from environment variables, DROPCAST_HOME first among them; the README lists them.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dropcast {importlib.metadata.version('dropcast')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_say_version, help="Only say which version"
        ),
    ] = False,
) -> None:
    del version


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Instead of DROPCAST_HOST")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of DROPCAST_PORT")] = None,
    workers: Annotated[
        int | None, typer.Option(help="API processes, instead of DROPCAST_WORKERS")
    ] = None,
    worker: Annotated[bool, typer.Option(help="Run a training worker beside the API")] = True,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="Be one of several processes")
    ] = False,
) -> None:
    """Serve the API, with a worker for training jobs."""
    settings = read_settings(is_service=True, host=host, port=port, workers=workers)
    if settings.workers > 1 and not with_parent:
        from service.several import run_several  # noqa: PLC0415

        raise typer.Exit(run_several(settings, with_worker=worker))
    from service.serving import run_service  # noqa: PLC0415

    if with_parent:
        from service.processes import end_with_parent  # noqa: PLC0415

        end_with_parent()
    with_worker = worker and not with_parent
    raise typer.Exit(run_service(settings, with_worker=with_worker, is_one_of_several=with_parent))


@app.command()
def worker(
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="End when standard input closes")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only say, by the exit code, whether it runs and is well"),
    ] = False,
) -> None:
    """Run training jobs until stopped."""
    if check:
        from service.processes import is_well  # noqa: PLC0415

        settings = read_settings()
        raise typer.Exit(0 if is_well(settings.home, settings.worker_id) else 1)
    from service.processes import end_with_parent, exit_now  # noqa: PLC0415
    from service.worker import Worker  # noqa: PLC0415

    settings = read_settings(is_service=True)
    if with_parent:
        end_with_parent()
    Worker(settings).run()
    # Threads of running steps must not record that their child has been ended.
    exit_now()


@app.command()
def train(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV, Parquet or NDJSON")
    ],
    target: Annotated[str, typer.Option(help="The column to predict")],
    name: Annotated[str | None, typer.Option(help="The model; without it, the file's name")] = None,
    task: Annotated[str, typer.Option(help="auto, regression or classification")] = "auto",
    hidden: Annotated[str, typer.Option(help="Units of the hidden layers")] = "256,256",
    dropout: Annotated[
        str, typer.Option(help="bernoulli, gaussian, concrete or dropconnect")
    ] = "bernoulli",
    p: Annotated[
        str,
        typer.Option(
            help="Probability that a unit is dropped; auto searches it, for the time of four fits"
        ),
    ] = "0.1",
    epochs: Annotated[int | None, typer.Option(help="Most epochs")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same weights")] = 0,
    promote: Annotated[str, typer.Option(help="if_better, always or never")] = "if_better",
) -> None:
    """Train a model on a file; ends with a table of its metrics."""
    from service.commands import train as training  # noqa: PLC0415

    hyperparameters: dict[str, Any] = {
        "hidden": counts(hidden, "hidden"),
        "dropout": {"kind": dropout, "p": probability(p)},
        "epochs": epochs,
    }
    request = {
        "model": name or file.stem,
        "target": target,
        "task": task,
        "hyperparameters": hyperparameters,
        "seed": seed,
        "promote": promote,
    }
    raise typer.Exit(training.train(read_settings(), file, request))


@app.command()
def predict(
    name: ModelName, file: RowsFile, version: VersionNumber = None, output: Output = None
) -> None:
    """Predict the rows of a file, dropout off."""
    from service.commands.ask import ask  # noqa: PLC0415

    raise typer.Exit(ask(read_settings(quiet=True), name, file, version, None, output))


@app.command()
def uncertainty(
    name: ModelName,
    file: RowsFile,
    version: VersionNumber = None,
    samples: Annotated[
        int,
        typer.Option(help="Thinned networks to draw, or as many as make the answer as accurate"),
    ] = 100,
    estimator: Annotated[
        str, typer.Option(help="auto, mc, stratified, control_variate or analytic")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Names their masks")] = 0,
    coverage: Annotated[float, typer.Option(help="Of the intervals or prediction sets")] = 0.9,
    output: Output = None,
) -> None:
    """Predict the rows of a file with their uncertainty, dropout on."""
    from service.commands.ask import ask  # noqa: PLC0415

    options = {
        "n_samples": samples,
        "estimator": estimator,
        "seed": seed,
        "coverage": coverage,
    }
    raise typer.Exit(ask(read_settings(quiet=True), name, file, version, options, output))


@app.command()
def export(
    address: Annotated[
        str, typer.Argument(metavar="MODEL[@VERSION]", help="Without a version, production")
    ],
    file: Annotated[Path, typer.Argument(dir_okay=False, help="The zip to write")],
) -> None:
    """Write a version into one file, for another installation to import."""
    from service.commands.artifacts import export_version  # noqa: PLC0415

    raise typer.Exit(export_version(read_settings(quiet=True), address, file))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The zip to read")],
    name: Annotated[str, typer.Option(help="The model of which it becomes a version")],
    promote: Annotated[
        str, typer.Option(help="Into production: if_first (if there is none), always or never")
    ] = "if_first",
) -> None:
    """Make what was exported elsewhere a version here, with the same bits."""
    from service.commands.artifacts import import_version  # noqa: PLC0415

    if promote not in ("if_first", "always", "never"):
        message = f"if_first, always or never is due, not {promote!r}"
        raise typer.BadParameter(message, param_hint="'--promote'")
    raise typer.Exit(import_version(read_settings(quiet=True), file, name, promote))


@app.command()
def models() -> None:
    """List models, their versions and aliases."""
    from service.commands.models import list_models  # noqa: PLC0415

    list_models(read_settings(quiet=True))


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help="A model; without it, each one")] = None,
    version: VersionNumber = None,
    samples: Annotated[int, typer.Option(min=2, max=10_000, help="T, thinned networks")] = 100,
    rows: Annotated[str, typer.Option(help="Numbers of rows to ask for at a time")] = "1,32,1000",
    seconds: Annotated[
        float, typer.Option(min=0.01, help="About how long each figure may take")
    ] = 1.0,
) -> None:
    """Measure what answers of a model cost on this machine, beside passes written by hand."""
    from service.commands import bench as benchmark  # noqa: PLC0415

    numbers = counts(rows, "rows")
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter("one row or more is due", param_hint="'--rows'")
    wish = benchmark.Wish(samples, numbers, seconds)
    raise typer.Exit(benchmark.bench(read_settings(quiet=True), name, version, wish))


keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys that let clients in.")
app.add_typer(keys, name="keys")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for")],
    scope: Annotated[
        list[str],
        typer.Option(help="predict, train or admin; more than once for more than one"),
    ] = ["predict"],  # noqa: B006 - typer copies it
    days: Annotated[float | None, typer.Option(help="Good for so long, and not for ever")] = None,
) -> None:
    """Make a key. It is shown this once: only a hash of it is kept."""
    from service.commands import keys as commands  # noqa: PLC0415

    raise typer.Exit(commands.create(read_settings(quiet=True), name, scope, days))


@keys.command("list")
def list_keys() -> None:
    """List the keys: id, name, scopes and state."""
    from service.commands import keys as commands  # noqa: PLC0415

    commands.list_keys(read_settings(quiet=True))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="As listed")]) -> None:
    """Make a key worthless, within two seconds in every process that serves."""
    from service.commands import keys as commands  # noqa: PLC0415

    raise typer.Exit(commands.revoke(read_settings(quiet=True), key_id))


def run() -> None:
    """Runs the command; what the machine refuses it is told in one line."""
    try:
        app()
    except BrokenPipeError:
        raise SystemExit(1) from None
    except (OSError, UnicodeError) as error:
        raise SystemExit(f"dropcast: {error}") from None
    except Exception as error:
        from sqlalchemy.exc import OperationalError  # noqa: PLC0415

        if not isinstance(error, OperationalError):
            raise
        reason = str(error.orig).partition("\n")[0]
        raise SystemExit(f"dropcast: the database does not answer: {reason}") from None


if __name__ == "__main__":
    run()
