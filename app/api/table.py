"""The table of API endpoints, from which the routes and the OpenAPI document are built."""

from app.api import bench, items, presets, preview, runs, schedule, secrets, shapes, sources, trials
from app.api.endpoint import Endpoint
from app.words import Scope

READ, OPERATE, ADMIN = Scope.READ, Scope.OPERATE, Scope.ADMIN
SCHEDULE = "/collection/schedule"
PRESETS = "/collection/presets"
PRESET = "/collection/presets/{preset_id}"
SOURCES = "/collection/sources"
SOURCE = "/collection/sources/{name}"
SECRETS = "/collection/secrets"
SECRET = f"{SECRETS}/{{secret}}"
TRYING = bench.SECONDS + 8  # seconds; the dry run itself, and the queries before and after it

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", SCHEDULE, READ, schedule.read_schedule, shapes.Schedule, etag=True),
    Endpoint(
        "PATCH",
        SCHEDULE,
        ADMIN,
        schedule.change_schedule,
        shapes.Schedule,
        body=shapes.ScheduleChange,
        etag=True,
        if_match=True,
    ),
    Endpoint(
        "DELETE",
        SCHEDULE,
        ADMIN,
        schedule.retire_schedule,
        status=204,
        if_match=True,
        refusals=(404,),
    ),
    Endpoint("GET", f"{SCHEDULE}/pause", READ, schedule.read_pause, shapes.Pause, etag=True),
    Endpoint(
        "POST",
        f"{SCHEDULE}/pause",
        OPERATE,
        schedule.pause_schedule,
        shapes.Pause,
        body=shapes.Pausing,
        etag=True,
        if_match=True,
        refusals=(404,),
    ),
    Endpoint(
        "POST",
        f"{SCHEDULE}/resume",
        OPERATE,
        schedule.resume_schedule,
        shapes.Pause,
        body=shapes.Resuming,
        optional=True,
        etag=True,
        if_match=True,
        refusals=(404,),
    ),
    Endpoint(
        "GET",
        f"{SCHEDULE}/preview",
        READ,
        preview.preview_schedule,
        shapes.Preview,
        query=shapes.PreviewQuery,
        refusals=(400,),
    ),
    Endpoint(
        "GET", f"{SCHEDULE}/edits", READ, schedule.list_edits, shapes.Edits, query=shapes.Paged
    ),
    Endpoint(
        "POST",
        "/collection/run",
        OPERATE,
        runs.ask_for_run,
        shapes.QueuedRun,
        status=202,
        body=shapes.Nothing,
        optional=True,
        refusals=(409,),
    ),
    Endpoint("GET", "/collection/runs", READ, runs.list_runs, shapes.Runs, query=shapes.RunsQuery),
    Endpoint(
        "GET",
        "/collection/runs/{run_id}",
        READ,
        runs.read_run,
        shapes.RunWithSources,
        refusals=(404,),
    ),
    Endpoint(
        "GET", "/collection/items", READ, items.list_items, shapes.Items, query=shapes.ItemsQuery
    ),
    Endpoint("GET", PRESETS, READ, presets.list_presets, shapes.Presets),
    Endpoint(
        "POST",
        PRESETS,
        ADMIN,
        presets.create_preset,
        shapes.Preset,
        status=201,
        body=shapes.PresetWanted,
        etag=True,
        refusals=(409,),
    ),
    Endpoint("GET", PRESET, READ, presets.read_preset, shapes.Preset, etag=True, refusals=(404,)),
    Endpoint(
        "PATCH",
        PRESET,
        ADMIN,
        presets.change_preset,
        shapes.Preset,
        body=shapes.PresetChange,
        etag=True,
        if_match=True,
        refusals=(404, 409),
    ),
    Endpoint(
        "DELETE",
        PRESET,
        ADMIN,
        presets.delete_preset,
        status=204,
        if_match=True,
        refusals=(404, 409),
    ),
    Endpoint("GET", SOURCES, READ, sources.list_sources, shapes.OwnSources),
    Endpoint(
        "POST",
        SOURCES,
        ADMIN,
        sources.create_source,
        shapes.OwnSource,
        status=201,
        body=shapes.OwnSourceWanted,
        etag=True,
        refusals=(409,),
    ),
    Endpoint(
        "GET", SOURCE, READ, sources.read_source, shapes.OwnSource, etag=True, refusals=(404,)
    ),
    Endpoint(
        "PUT",
        SOURCE,
        ADMIN,
        sources.change_source,
        shapes.OwnSource,
        body=shapes.OwnSourceChange,
        etag=True,
        if_match=True,
        refusals=(404,),
    ),
    Endpoint(
        "DELETE",
        SOURCE,
        ADMIN,
        sources.delete_source,
        status=204,
        if_match=True,
        refusals=(404, 409),
    ),
    Endpoint(
        "POST",
        f"{SOURCES}/dry-run",
        OPERATE,
        trials.try_recipe,
        shapes.Tried,
        body=shapes.RecipeToTry,
        seconds=TRYING,
    ),
    Endpoint(
        "POST",
        f"{SOURCE}/dry-run",
        OPERATE,
        trials.try_source,
        shapes.Tried,
        body=shapes.Nothing,
        optional=True,
        refusals=(404,),
        seconds=TRYING,
    ),
    Endpoint("GET", SECRETS, READ, secrets.list_secrets, shapes.SecretNames),
    Endpoint(
        "PUT",
        SECRET,
        ADMIN,
        secrets.put_secret,
        shapes.SecretName,
        body=shapes.SecretWanted,
        refusals=(409,),
    ),
    Endpoint("DELETE", SECRET, ADMIN, secrets.delete_secret, status=204, refusals=(404,)),
)
