"""A job that is due every second and does nothing: its ticks show how late they are decided."""

from app.jobs import Run, job


@job(every=1, overlap="allow")
async def prompt(run: Run) -> None:
    """Do nothing."""
