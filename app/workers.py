"""The settings of arq's worker: `arq app.workers.Settings`."""

import sys

from app import context
from app.core import config, log
from app.core.errors import RollcallError
from app.queue import jobs, worker
from app.scheduling.policies import CATCH_UP_WINDOW
from app.scheduling.schedule import Schedule
from workers import lifecycle, registry
from workers import monitor as watching
from workers import prune as pruning
from workers.dispatch import dispatch
from workers.maintenance import NIGHTLY, retain
from workers.maintenance import TIMEOUT as NIGHT
from workers.sweep import HEALTH, sweep, sweeps, tell_health
from workers.tidy import tidy
from workers.trigger import ALARM_SLOTS, alarm_for, alarm_of

try:
    CONFIG = config.load()
    log.configure(CONFIG.log_format, CONFIG.log_level, CONFIG.secrets())
    DECLARED = registry.declared(CONFIG)
    context.check(CONFIG)
    URLS = context.urls(CONFIG)
except RollcallError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)

worker.install()


class Settings:
    """The settings that arq reads. arq ignores inherited attributes."""

    functions = registry.FUNCTIONS
    cron_jobs = (
        *(alarm_for(declared) for declared in DECLARED),
        alarm_of("dispatch", dispatch, Schedule.every(1)),
        alarm_of("sweep", sweep, sweeps(CONFIG.lease_seconds)),
        alarm_of("health", tell_health, HEALTH),
        alarm_of("watch", watching.watch, watching.WATCH, timeout=watching.TIMEOUT),
        alarm_of("prune", pruning.prune, Schedule.every(3600), timeout=pruning.TIMEOUT),
        alarm_of("retention", retain, NIGHTLY, timeout=NIGHT),
        alarm_of("tidy", tidy, Schedule.every(3600)),
    )
    on_startup = lifecycle.startup(CONFIG, URLS, DECLARED)
    on_shutdown = lifecycle.shutdown
    redis_pool = lifecycle.queue(CONFIG, URLS)
    job_serializer = jobs.dumps
    job_deserializer = jobs.loads
    max_jobs = CONFIG.max_jobs + ALARM_SLOTS
    job_timeout = CATCH_UP_WINDOW.total_seconds() + 60  # runs have their own timeout
    job_completion_wait = CONFIG.shutdown_grace_seconds
    keep_result = 0
    max_tries = 1_000_000
    retry_jobs = True
    health_check_interval = 5
    health_check_key = f"rollcall:arq:{context.worker_name()}"
