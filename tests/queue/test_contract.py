"""Each name of arq that we rely on and that arq does not promise: a change fails here by name."""

import asyncio
import importlib
import inspect
from datetime import UTC
from typing import Any

import arq.worker
import pytest
from arq.connections import ArqRedis, log_redis_info
from arq.jobs import serialize_job
from arq.version import VERSION

from app.queue.jobs import dumps, redis_pool
from app.queue.worker import SurvivingWorker, install
from tests.queue.harness import FUNCTIONS

Stock: Any = importlib.import_module("arq.worker").Worker

OVERRIDDEN = {
    "main": ["self"],
    "start_jobs": ["self", "job_ids"],
    "_poll_iteration": ["self"],
    "_release_sem_dec_counter_on_complete": ["self"],
    "heart_beat": ["self"],
    "handle_sig": ["self", "signum"],
    "handle_sig_wait_for_completion": ["self", "signum"],
    "close": ["self"],
    "finish_job": [
        "self",
        "job_id",
        "finish",
        "result_data",
        "result_timeout_s",
        "keep_result_forever",
        "incr_score",
        "keep_in_progress",
    ],
}
CALLED = {
    "run_job": ["self", "job_id", "score"],
    "record_health": ["self"],
    "_cancel_aborted_jobs": ["self"],
    "_jobs_started": ["self"],
    "_add_signal_handler": ["self", "signum", "handler"],
}
ATTRIBUTES = {
    "_pool": ArqRedis,
    "_handle_signals": bool,
    "_job_completion_wait": int,
    "allow_abort_jobs": bool,
    "allow_pick_jobs": bool,
    "burst": bool,
    "cron_jobs": list,
    "ctx": dict,
    "functions": dict,
    "health_check_key": str,
    "in_progress_timeout_s": float,
    "job_counter": int,
    "job_tasks": dict,
    "jobs_complete": int,
    "jobs_failed": int,
    "loop": asyncio.AbstractEventLoop,
    "main_task": type(None),
    "max_burst_jobs": int,
    "max_jobs": int,
    "on_shutdown": type(None),
    "on_stop": type(None),
    "queue_name": str,
    "sem": asyncio.BoundedSemaphore,
    "tasks": dict,
}
CONSTANTS = {
    "default_queue_name": "arq:queue",
    "in_progress_key_prefix": "arq:in-progress:",
    "job_key_prefix": "arq:job:",
    "keep_cronjob_progress": 60,
    "result_key_prefix": "arq:result:",
    "retry_key_prefix": "arq:retry:",
}
# What is done with these names, in arq's words: the order of its steps is relied on, too.
STEPS = {
    "main": ["log_redis_info(", "self.ctx['redis'] =", "self.on_startup(", "_poll_iteration("],
    "run": ["self.main_task =", "except asyncio.CancelledError", "self.close()"],
    "run_job": ["self.job_tasks[job_id] =", "asyncio.wait_for(task", "self.finish_job("],
    "start_jobs": ["self.sem.acquire()", "self.job_counter + 1", "psetex(", "self.tasks[job_id] ="],
    "run_cron": ["this_hb_cutoff = n +", "cron_job.run_at_startup", "cron_job.unique"],
    "finish_job": ["if finish:", "zincrby(", "tr.delete("],
}


# What `claimed_jobs.py` answers in place of Redis: the first use of the client, nothing before it.
FETCH = """
        async with self.pool.pipeline(transaction=True) as pipe:
            pipe.get(job_key_prefix + job_id)
            pipe.incr(retry_key_prefix + job_id)
            pipe.expire(retry_key_prefix + job_id, 88400)
"""


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_arq_is_the_version_that_was_measured() -> None:
    assert VERSION.startswith("0.28")


@pytest.mark.parametrize(("name", "expected"), (OVERRIDDEN | CALLED).items())
def test_arq_still_has_the_method(name: str, expected: list[str]) -> None:
    assert parameters(getattr(Stock, name)) == expected


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_our_override_takes_what_arqs_method_takes(name: str) -> None:
    ours, theirs = getattr(SurvivingWorker, name), getattr(Stock, name)

    assert parameters(ours) == parameters(theirs)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)


@pytest.mark.parametrize(("name", "steps"), STEPS.items())
def test_arq_still_takes_the_steps_in_this_order(name: str, steps: list[str]) -> None:
    source = inspect.getsource(getattr(Stock, name))

    places = [source.find(step) for step in steps]

    assert -1 not in places, dict(zip(steps, places, strict=True))
    assert places == sorted(places)


def test_arq_still_fetches_a_job_first() -> None:
    source = inspect.getsource(Stock.run_job)

    assert source.index(FETCH) < source.index("self.pool", source.index(FETCH) + len(FETCH))
    assert source.index("self.pool") == source.index(FETCH) + FETCH.index("self.pool")
    assert "v, job_try, _ = await pipe.execute()" in source


@pytest.mark.parametrize(("name", "kind"), ATTRIBUTES.items())
async def test_arqs_worker_still_has_the_attribute(name: str, kind: type) -> None:
    worker = Stock(functions=FUNCTIONS, redis_pool=redis_pool("unix:///x"), handle_signals=False)

    value = getattr(worker, name)

    assert isinstance(value, (int, float) if kind is float else kind)


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items())
def test_arqs_keys_are_what_they_were(name: str, value: object) -> None:
    assert getattr(importlib.import_module("arq.constants"), name) == value


async def test_arqs_semaphore_has_one_place_more_than_there_are_slots() -> None:
    worker = Stock(functions=FUNCTIONS, max_jobs=4, handle_signals=False)

    assert worker.sem._value == 5


def test_arq_names_the_parts_of_a_job_and_of_a_result_as_before() -> None:
    source = inspect.getsource(importlib.import_module("arq.jobs"))

    job = serialize_job("f", (1,), {}, None, 2, serializer=dumps)

    assert job == b'{"t":null,"f":"f","a":[1],"k":{},"et":2}'
    assert "'r': result" in source
    assert parameters(log_redis_info) == ["redis", "log_func"]


async def test_our_worker_keeps_every_setting_of_arqs() -> None:
    settings = {"functions": FUNCTIONS, "max_jobs": 3, "timezone": UTC, "handle_signals": False}
    stock = arq.worker.Worker
    try:
        install()
        worker = arq.worker.create_worker(settings)
    finally:
        arq.worker.Worker = stock

    assert isinstance(worker, SurvivingWorker)
    assert worker.max_jobs == 3
    assert parameters(SurvivingWorker) == parameters(Stock)
