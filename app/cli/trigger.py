"""The `trigger` command: queue a manual run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, run_requests, terminal
from app.core.enums import COLLECTION_TASK, SOURCE_TASK
from app.core.errors import BadConfig, UnknownJob
from app.ledger import manual_runs
from workers import recipe_dir, registry

if TYPE_CHECKING:
    from app.core.config import Config
    from workers.job import Job

app = typer.Typer()


def job_names() -> list[str]:
    """Return the names for shell completion."""
    try:
        return [schedule.key for schedule in registry.declared_schedules(connections.load_config())]
    except BadConfig:
        return [job.name for job in registry.SITES]


@app.command()
def trigger(
    job: Annotated[
        str, typer.Argument(help="The job's name, as `jobs` prints it.", autocompletion=job_names)
    ],
    params: Annotated[
        list[str] | None,
        typer.Argument(
            help="Its parameters as `name=value`; lists separated by commas, objects as JSON."
        ),
    ] = None,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the progress until the run ends.")
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(help="Start at this instant, such as `2026-12-01T09:00+01:00`; UTC if bare."),
    ] = None,
    as_json: terminal.JSON = False,
) -> None:
    """Queue a manual run. It has no tick and does not affect the schedule.

    With `--wait` the exit code is 0 for success, 1 for a run that ended otherwise, 2 for one that
    stays queued.

    Examples: `rollcall trigger scrape_all_platforms --wait`,
    `rollcall trigger scrape_all_platforms platforms=bet9ja,betpawa`,
    `rollcall trigger source:books`,
    `rollcall trigger poll_news --at 2026-12-01T09:00+01:00`
    """
    if at is not None and wait:
        raise typer.BadParameter("--wait follows a run that starts now; leave it out with --at")
    task, _, name = job.partition(":")
    if task == COLLECTION_TASK and name:
        if at is not None:
            raise typer.BadParameter("a collection runs now or by its schedule", param_hint="--at")
        if params:
            raise typer.BadParameter("a collection runs with its own selection of sources")
        run_requests.trigger_run(manual_runs.WantedRun(job, task), wait=wait, as_json=as_json)
        return
    found = find_job(connections.load_config(), job)
    own = [f"source={name}"] if task == SOURCE_TASK and name else []
    values = parse_params(found, [*own, *(params or ())])
    start = None if at is None else terminal.parse_instant(at)
    run_requests.trigger_run(
        manual_runs.WantedRun(job, found.name, values, start), wait=wait, as_json=as_json
    )


def find_job(config: Config, name: str) -> Job:
    """Return the job of that name. Raises UnknownJob, which lists the known ones."""
    task, _, source = name.partition(":")
    if task != SOURCE_TASK or not source:
        return registry.find_job(config, name)
    recipes = [recipe.name for recipe in recipe_dir.load_recipes(config)]
    if source not in recipes:
        known = ", ".join(f"{SOURCE_TASK}:{recipe}" for recipe in recipes) or "no recipe"
        raise UnknownJob(f"there is no job {name!r}; known: {known}")
    return registry.find_job(config, task)


def parse_params(job: Job, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the validated parameters as JSON values.

    Raises typer.BadParameter for an argument that is not `name=value`, and BadParameters, which
    names each fault.
    """
    from workers.job import from_text  # noqa: PLC0415 - not imported for `--help`

    named: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise typer.BadParameter(f"{argument!r} is not a parameter; try name=value")
        if name in named:
            raise typer.BadParameter(f"{name!r} is given twice; separate the values by commas")
        field = job.params.model_fields.get(name)
        named[name] = value if field is None else from_text(field.annotation, value)
    return job.json_params(named)
