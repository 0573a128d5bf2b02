"""The settings of arq's worker, by those of the environment."""

import sys

from app import context
from app.core import config, log
from app.core.errors import RollcallError
from app.queue import jobs, worker
from app.scheduling.policies import CATCH_UP_WINDOW
from app.scheduling.schedule import Schedule
from app.store import servers
from workers import lifecycle, registry
from workers.decider_process import DeciderProcess
from workers.maintenance import MAINTENANCE
from workers.monitor import MONITOR_SCHEDULE, MONITOR_TIMEOUT, monitor
from workers.sweep import HEALTH_SCHEDULE, publish_health
from workers.trigger import CRON_SLOTS, resilient_entry
from workers.webhooks import deliver_webhooks

try:
    CONFIG = config.load()
    log.configure(CONFIG.log_format, CONFIG.log_level, CONFIG.secrets())
    JOBS = registry.load(CONFIG)
    context.check_config(CONFIG)
    URLS = servers.server_urls(CONFIG)
except RollcallError as error:
    log.report_fatal(str(error), config.chosen_format())
    sys.exit(2)

worker.install()


class Settings:
    """The settings that arq reads. arq ignores inherited attributes.

    The cron entries that decide ticks are those of a process of its own, `workers/decider.py`.
    """

    functions = JOBS.tasks()
    cron_jobs = (
        resilient_entry("health", publish_health, HEALTH_SCHEDULE),
        resilient_entry("watch", monitor, MONITOR_SCHEDULE, timeout=MONITOR_TIMEOUT),
        resilient_entry("webhooks", deliver_webhooks, Schedule.every(1), timeout=60),
        *(resilient_entry(*entry) for entry in MAINTENANCE),
    )
    on_startup = lifecycle.startup(CONFIG, URLS, JOBS, DeciderProcess)
    on_shutdown = lifecycle.shutdown
    redis_pool = lifecycle.open_queue(CONFIG, URLS)
    job_serializer = jobs.dumps
    job_deserializer = jobs.loads
    max_jobs = CONFIG.max_jobs + CRON_SLOTS
    job_timeout = CATCH_UP_WINDOW.total_seconds() + 60  # runs have their own timeout
    job_completion_wait = CONFIG.shutdown_grace_seconds
    keep_result = 0
    max_tries = 1_000_000
    retry_jobs = True
    health_check_interval = 5
    health_check_key = f"rollcall:arq:{context.worker_name()}"
