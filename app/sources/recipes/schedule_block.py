"""The table [schedule] of a recipe."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from app.core.durations import parse_duration
from app.core.enums import Coalesce, Overlap
from app.core.errors import BadSchedule
from app.scheduling.calendars import EMPTY_CALENDAR
from app.scheduling.choices import PolicyChoices
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule as When
from app.sources.recipes.blocks import Moment, RecipeBlock, Seconds

MIN_INTERVAL = timedelta(minutes=1)


class RecipeSchedule(RecipeBlock):
    """When a source runs: `every`, or `cron` in a `timezone`; and its policies."""

    every: Annotated[str, Field(max_length=20)] | None = None
    cron: Annotated[str, Field(max_length=200)] | None = None
    timezone: str = "UTC"
    overlap: Overlap | None = None
    coalesce: Coalesce | None = None
    catch_up: Annotated[int, Field(ge=1, le=1000)] | None = None
    misfire_grace: Seconds | None = None
    jitter: Seconds | None = None
    timeout: Seconds | None = None
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = None
    exclude: Annotated[tuple[Moment, ...], Field(max_length=500)] = ()
    start: Moment | None = None
    end: Moment | None = None

    @model_validator(mode="after")
    def _valid_schedule(self) -> Self:
        if (self.every is None) == (self.cron is None):
            raise ValueError('needs exactly one of every = "15m" and cron = "0 6 * * *"')
        if (
            self.every is not None
            and self.every != "auto"
            and parse_duration(self.every) < MIN_INTERVAL
        ):
            raise ValueError("every must be at least one minute")
        try:
            self.to_policies(Policies(), lambda _: EMPTY_CALENDAR)
        except BadSchedule as error:
            raise ValueError(str(error)) from None
        return self

    def to_policies(self, defaults: Policies, read: Callable[[str], str]) -> Policies:
        """Return the defaults with the chosen policies. Raises BadSchedule.

        `read`: returns the text of a calendar file.
        """
        choices = PolicyChoices(
            overlap=self.overlap,
            coalesce=self.coalesce,
            catch_up=self.catch_up,
            misfire_grace=self.misfire_grace,
            jitter=self.jitter,
            timeout=None if self.timeout is None else self.timeout.total_seconds(),
            max_attempts=self.max_attempts,
            exclude=self.exclude,
            start=self.start,
            end=self.end,
        )
        return choices.apply(defaults, self.to_schedule(), self.timezone, read)

    @property
    def auto(self) -> bool:
        """Whether the interval follows the feed's own publishing rate."""
        return self.every == "auto"

    def to_schedule(self, shortest: timedelta = timedelta(minutes=5)) -> When:
        """Return the schedule; for `auto` one with the interval `shortest`. Raises BadSchedule."""
        if self.cron is not None:
            return When.cron(self.cron, self.timezone)
        step = shortest if self.every is None or self.auto else parse_duration(self.every)
        return When.every(step.total_seconds())
