"""The settings of arq's worker: `arq app.workers.Settings`."""

import sys

from app import arq_worker, config, log, queue, resources
from app.errors import RollcallError
from app.scheduling.policies import CATCH_UP_WINDOW
from app.scheduling.schedule import Schedule
from workers import catalogue, house
from workers import prune as pruning
from workers import watch as watching
from workers.dispatch import dispatch
from workers.retention import NIGHTLY, retain
from workers.retention import TIMEOUT as NIGHT
from workers.ring import ALARM_SLOTS, alarm_for, alarm_of
from workers.sweep import HEALTH, sweep, sweeps, tell_health
from workers.tidy import tidy

try:
    CONFIG = config.load()
    log.configure(CONFIG.log_format, CONFIG.log_level, CONFIG.secrets())
    DECLARED = catalogue.declared(CONFIG)
    resources.check(CONFIG)
    URLS = resources.urls(CONFIG)
except RollcallError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)

arq_worker.install()


class Settings:
    """The settings that arq reads. arq ignores inherited attributes."""

    functions = catalogue.FUNCTIONS
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
    on_startup = house.startup(CONFIG, URLS, DECLARED)
    on_shutdown = house.shutdown
    redis_pool = house.queue(CONFIG, URLS)
    job_serializer = queue.dumps
    job_deserializer = queue.loads
    max_jobs = CONFIG.max_jobs + ALARM_SLOTS
    job_timeout = CATCH_UP_WINDOW.total_seconds() + 60  # runs have their own timeout
    job_completion_wait = CONFIG.shutdown_grace_seconds
    keep_result = 0
    max_tries = 1_000_000
    retry_jobs = True
    health_check_interval = 5
    health_check_key = f"rollcall:arq:{resources.worker_name()}"
