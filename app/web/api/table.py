"""The table of API endpoints, from which the routes and the OpenAPI document are built."""

from app.core.enums import Scope
from app.web.api import (
    changes,
    dry_run_pool,
    dry_runs,
    exports,
    items,
    operator,
    presets,
    preview,
    runs,
    schedule,
    schemas,
    secrets,
    sources,
    ticks,
    usage,
    webhooks,
)
from app.web.api.data_table import DATA_ENDPOINTS
from app.web.api.endpoint import Endpoint

READ, OPERATE, ADMIN = Scope.READ, Scope.OPERATE, Scope.ADMIN
SCHEDULE = "/collection/schedule"
PRESETS = "/collection/presets"
PRESET = "/collection/presets/{preset_id}"
SOURCES = "/collection/sources"
SOURCE = "/collection/sources/{name}"
ORGS = "/operator/organizations"
ORG = "/operator/organizations/{org_id}"
WEBHOOKS = "/collection/webhooks"
WEBHOOK = "/collection/webhooks/{webhook_id}"
SECRETS = "/collection/secrets"
SECRET = f"{SECRETS}/{{secret}}"
DRY_RUN_SECONDS = (
    dry_run_pool.TIME_LIMIT_SECONDS + 8
)  # seconds; the dry run itself, and the queries before and after it


def _of_collection(prefix: str) -> tuple[Endpoint, ...]:
    """The endpoints of one collection, whose schedule is at `prefix`/schedule."""
    schedule_path = f"{prefix}/schedule"
    return (
        Endpoint(
            "GET", schedule_path, READ, schedule.read_schedule, schemas.ScheduleBody, etag=True
        ),
        Endpoint(
            "PATCH",
            schedule_path,
            ADMIN,
            schedule.change_schedule,
            schemas.ScheduleBody,
            body=schemas.ScheduleChange,
            etag=True,
            if_match=True,
        ),
        Endpoint(
            "DELETE",
            schedule_path,
            ADMIN,
            schedule.retire_schedule,
            status=204,
            if_match=True,
            errors=(404,),
        ),
        Endpoint(
            "GET", f"{schedule_path}/pause", READ, schedule.read_pause, schemas.PauseBody, etag=True
        ),
        Endpoint(
            "POST",
            f"{schedule_path}/pause",
            OPERATE,
            schedule.pause_schedule,
            schemas.PauseBody,
            body=schemas.PauseRequest,
            etag=True,
            if_match=True,
            errors=(404,),
        ),
        Endpoint(
            "POST",
            f"{schedule_path}/resume",
            OPERATE,
            schedule.resume_schedule,
            schemas.PauseBody,
            body=schemas.ResumeRequest,
            optional=True,
            etag=True,
            if_match=True,
            errors=(404,),
        ),
        Endpoint(
            "GET",
            f"{schedule_path}/edits",
            READ,
            schedule.list_edits,
            schemas.Edits,
            query=schemas.PageQuery,
        ),
        Endpoint(
            "POST",
            f"{prefix}/run",
            OPERATE,
            runs.ask_for_run,
            schemas.QueuedRunBody,
            status=202,
            body=schemas.EmptyRequest,
            optional=True,
            errors=(409,),
        ),
    )


def _tokens(prefix: str) -> tuple[Endpoint, ...]:
    """The endpoints of the tokens of the operator, or of one organisation."""
    path = f"{prefix}/tokens"
    return (
        Endpoint(
            "GET",
            path,
            READ,
            operator.list_tokens,
            schemas.Tokens,
            errors=(404,),
            operator=True,
        ),
        Endpoint(
            "POST",
            path,
            ADMIN,
            operator.create_token,
            schemas.TokenCreated,
            status=201,
            body=schemas.TokenCreate,
            errors=(404,),
            operator=True,
        ),
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/collections", READ, schedule.list_collections, schemas.Collections),
    *_of_collection("/collection"),
    *_of_collection("/collections/{collection}"),
    Endpoint(
        "GET",
        f"{SCHEDULE}/preview",
        READ,
        preview.preview_schedule,
        schemas.SchedulePreview,
        query=schemas.PreviewQuery,
        errors=(400,),
    ),
    Endpoint(
        "GET", "/collection/runs", READ, runs.list_runs, schemas.Runs, query=schemas.RunsQuery
    ),
    Endpoint(
        "GET",
        "/collection/runs/{run_id}",
        READ,
        runs.read_run,
        schemas.RunWithSources,
        errors=(404,),
    ),
    Endpoint(
        "POST",
        "/collection/runs/{run_id}/cancel",
        OPERATE,
        runs.cancel_run,
        schemas.RunWithSources,
        body=schemas.EmptyRequest,
        optional=True,
        errors=(404, 409),
    ),
    Endpoint(
        "POST",
        "/collection/runs/{run_id}/retry",
        OPERATE,
        runs.retry_run,
        schemas.QueuedRunBody,
        status=202,
        body=schemas.EmptyRequest,
        optional=True,
        errors=(404, 409),
    ),
    Endpoint(
        "GET", "/collection/ticks", READ, ticks.list_ticks, schemas.Ticks, query=schemas.TicksQuery
    ),
    Endpoint(
        "GET", "/collection/items", READ, items.list_items, schemas.Items, query=schemas.ItemsQuery
    ),
    Endpoint(
        "GET",
        "/collection/items/{key}/history",
        READ,
        changes.item_history,
        schemas.History,
        query=schemas.HistoryQuery,
    ),
    Endpoint(
        "GET",
        "/collection/changes",
        READ,
        changes.list_changes,
        schemas.ChangeFeed,
        query=schemas.ChangesQuery,
        errors=(410,),
        seconds=45,
    ),
    Endpoint(
        "GET",
        "/collection/changes/stream",
        READ,
        changes.stream_changes,
        query=schemas.ChangeStreamQuery,
        stream=(changes.EVENT_STREAM,),
        errors=(410,),
    ),
    Endpoint(
        "GET",
        "/collection/exports/{what}",
        READ,
        exports.export_rows,
        query=schemas.ExportQuery,
        stream=exports.MEDIA_TYPES,
    ),
    Endpoint("GET", "/collection/usage", READ, usage.read_usage, schemas.UsageBody),
    Endpoint("GET", ORGS, READ, operator.list_organizations, schemas.Organizations, operator=True),
    Endpoint(
        "POST",
        ORGS,
        ADMIN,
        operator.create_organization,
        schemas.OrganizationBody,
        status=201,
        body=schemas.OrganizationCreate,
        operator=True,
    ),
    Endpoint(
        "GET",
        ORG,
        READ,
        operator.read_organization,
        schemas.OrganizationBody,
        errors=(404,),
        operator=True,
    ),
    Endpoint(
        "PATCH",
        ORG,
        ADMIN,
        operator.change_organization,
        schemas.OrganizationBody,
        body=schemas.OrganizationChange,
        errors=(404,),
        operator=True,
    ),
    Endpoint(
        "GET",
        f"{ORG}/usage",
        READ,
        operator.read_organization_usage,
        schemas.UsageBody,
        errors=(404,),
        operator=True,
    ),
    *_tokens("/operator"),
    *_tokens(ORG),
    Endpoint(
        "DELETE",
        "/operator/tokens/{token_id}",
        ADMIN,
        operator.revoke_token,
        status=204,
        errors=(404,),
        operator=True,
    ),
    Endpoint(
        "GET",
        "/operator/jobs",
        READ,
        operator.list_jobs,
        schemas.JobList,
        query=schemas.JobsQuery,
        operator=True,
    ),
    Endpoint(
        "GET",
        "/operator/jobs/{key}/ticks",
        READ,
        ticks.list_job_ticks,
        schemas.Ticks,
        query=schemas.TicksQuery,
        errors=(404,),
        operator=True,
    ),
    Endpoint("GET", WEBHOOKS, READ, webhooks.list_webhooks, schemas.Webhooks),
    Endpoint(
        "POST",
        WEBHOOKS,
        ADMIN,
        webhooks.create_webhook,
        schemas.WebhookCreated,
        status=201,
        body=schemas.WebhookCreate,
        once=False,
        errors=(409,),
    ),
    Endpoint("GET", WEBHOOK, READ, webhooks.read_webhook, schemas.WebhookBody, errors=(404,)),
    Endpoint("DELETE", WEBHOOK, ADMIN, webhooks.delete_webhook, status=204, errors=(404,)),
    Endpoint(
        "POST",
        f"{WEBHOOK}/pause",
        OPERATE,
        webhooks.pause_webhook,
        schemas.WebhookBody,
        body=schemas.PauseRequest,
        errors=(404,),
    ),
    Endpoint(
        "POST",
        f"{WEBHOOK}/resume",
        OPERATE,
        webhooks.resume_webhook,
        schemas.WebhookBody,
        body=schemas.EmptyRequest,
        optional=True,
        errors=(404,),
    ),
    Endpoint(
        "POST",
        f"{WEBHOOK}/test",
        OPERATE,
        webhooks.send_test,
        schemas.WebhookTest,
        status=202,
        body=schemas.EmptyRequest,
        optional=True,
        errors=(404,),
    ),
    Endpoint(
        "POST",
        f"{WEBHOOK}/replay",
        OPERATE,
        webhooks.replay_webhook,
        schemas.Replayed,
        body=schemas.WebhookReplay,
        errors=(404,),
    ),
    Endpoint(
        "GET",
        f"{WEBHOOK}/deliveries",
        READ,
        webhooks.list_deliveries,
        schemas.Deliveries,
        query=schemas.DeliveriesQuery,
        errors=(404,),
    ),
    Endpoint("GET", PRESETS, READ, presets.list_presets, schemas.Presets),
    Endpoint(
        "POST",
        PRESETS,
        ADMIN,
        presets.create_preset,
        schemas.PresetBody,
        status=201,
        body=schemas.PresetCreate,
        etag=True,
        errors=(409,),
    ),
    Endpoint(
        "GET", PRESET, READ, presets.read_preset, schemas.PresetBody, etag=True, errors=(404,)
    ),
    Endpoint(
        "PATCH",
        PRESET,
        ADMIN,
        presets.change_preset,
        schemas.PresetBody,
        body=schemas.PresetChange,
        etag=True,
        if_match=True,
        errors=(404, 409),
    ),
    Endpoint(
        "DELETE",
        PRESET,
        ADMIN,
        presets.delete_preset,
        status=204,
        if_match=True,
        errors=(404, 409),
    ),
    Endpoint("GET", SOURCES, READ, sources.list_sources, schemas.OrgSourceList),
    Endpoint(
        "POST",
        SOURCES,
        ADMIN,
        sources.create_source,
        schemas.OrgSourceBody,
        status=201,
        body=schemas.OrgSourceCreate,
        etag=True,
        errors=(409,),
        seconds=DRY_RUN_SECONDS,
    ),
    Endpoint(
        "GET", SOURCE, READ, sources.read_source, schemas.OrgSourceBody, etag=True, errors=(404,)
    ),
    Endpoint(
        "PUT",
        SOURCE,
        ADMIN,
        sources.change_source,
        schemas.OrgSourceBody,
        body=schemas.OrgSourceChange,
        etag=True,
        if_match=True,
        errors=(404,),
        seconds=DRY_RUN_SECONDS,
    ),
    Endpoint(
        "DELETE",
        SOURCE,
        ADMIN,
        sources.delete_source,
        status=204,
        if_match=True,
        errors=(404, 409),
    ),
    Endpoint(
        "POST",
        f"{SOURCES}/dry-run",
        OPERATE,
        dry_runs.try_recipe,
        schemas.DryRunResult,
        body=schemas.DryRunRequest,
        seconds=DRY_RUN_SECONDS,
        once=False,
    ),
    Endpoint(
        "POST",
        f"{SOURCE}/dry-run",
        OPERATE,
        dry_runs.try_source,
        schemas.DryRunResult,
        body=schemas.EmptyRequest,
        optional=True,
        errors=(404,),
        seconds=DRY_RUN_SECONDS,
        once=False,
    ),
    Endpoint("GET", SECRETS, READ, secrets.list_secrets, schemas.SecretNames),
    Endpoint(
        "PUT",
        SECRET,
        ADMIN,
        secrets.put_secret,
        schemas.SecretName,
        body=schemas.SecretValue,
        errors=(409,),
    ),
    Endpoint("DELETE", SECRET, ADMIN, secrets.delete_secret, status=204, errors=(404,)),
    *DATA_ENDPOINTS,
)
