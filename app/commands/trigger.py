"""The command that asks for a run by hand: `trigger`."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app import terminal
from app.commands import asking
from workers import catalogue
from workers.job import Job

app = typer.Typer()


def job_names() -> list[str]:
    """What the shell may complete to."""
    return [job.name for job in catalogue.JOBS]


@app.command()
def trigger(
    job: Annotated[str, typer.Argument(help="The job's name.", autocompletion=job_names)],
    params: Annotated[
        list[str] | None, typer.Argument(help="Its parameters, `name=value`; lists with commas.")
    ] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress to the end.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Queue a run by hand. It has no tick and does not disturb the schedule.

    With `--wait` the exit code is 0 for a success, 1 for part of one, 2 for anything else.

    Examples: `python -m app trigger scrape_all_platforms --wait`,
    `python -m app trigger scrape_all_platforms platforms=bet9ja,betpawa`
    """
    found = catalogue.find(job)
    asked = understood(found, params or ())
    asking.ask(found.name, asked, terminal.user(), wait=wait, as_json=as_json)


def understood(job: Job, words: Sequence[str]) -> dict[str, Any]:
    """The parameters as the job takes them. Raises BadParameters, which names each fault."""
    named: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"{word!r} is no parameter; try name=value")
        field = job.params.model_fields.get(name)
        many = field is not None and "tuple" in str(field.annotation)
        named[name] = [p.strip() for p in value.split(",") if p.strip()] if many else value
    return job.understood(named).model_dump(mode="json", exclude_unset=True)
