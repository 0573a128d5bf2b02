"""The `trigger` command: queue a manual run."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.cli import run_requests, terminal
from workers import registry
from workers.job import Job

app = typer.Typer()


def job_names() -> list[str]:
    """Return the names for shell completion."""
    return [job.name for job in registry.JOBS]


@app.command()
def trigger(
    job: Annotated[str, typer.Argument(help="The job's name.", autocompletion=job_names)],
    params: Annotated[
        list[str] | None,
        typer.Argument(help="Its parameters as `name=value`; lists separated by commas."),
    ] = None,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the progress until the run ends.")
    ] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Queue a manual run. It has no tick and does not affect the schedule.

    With `--wait` the exit code is 0 for success, 1 for partial_failure, 2 for anything else.

    Examples: `python -m app trigger scrape_all_platforms --wait`,
    `python -m app trigger scrape_all_platforms platforms=bet9ja,betpawa`
    """
    found = registry.find_job(job)
    values = parse_params(found, params or ())
    run_requests.trigger_run(
        found.name, values, terminal.current_user(), wait=wait, as_json=as_json
    )


def parse_params(job: Job, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the validated parameters as JSON values.

    Raises typer.BadParameter for an argument that is not `name=value`, and BadParameters, which
    names each fault.
    """
    named: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise typer.BadParameter(f"{argument!r} is not a parameter; try name=value")
        field = job.params.model_fields.get(name)
        is_list = field is not None and "tuple" in str(field.annotation)
        named[name] = [p.strip() for p in value.split(",") if p.strip()] if is_list else value
    return job.validate_params(named).model_dump(mode="json", exclude_unset=True)
