"""What the code of a job may do to the process that executes it, and what is kept from it."""

import asyncio
import os
import selectors
import signal
import threading
from asyncio.tasks import _unregister_task  # documented: "Extending asyncio"
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, cast

from app.core import log

_log = log.logger(__name__)


class JobThreads:
    """The threads of one job: of its `asyncio.to_thread` and its look-ups of addresses.

    They end with the job's last run, unless one is busy: a worker of many jobs keeps none, and
    those that never end stay as many as the job may have.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._runs = self._busy = 0

    @contextmanager
    def scope(self) -> Generator[None]:
        """Code of the job is executed in the block, and in the tasks that it starts."""
        token = _threads.set(self)
        self._runs += 1
        try:
            yield
        finally:
            _threads.reset(token)
            self._runs -= 1
            if self._pool is not None and not self._runs and not self._busy:
                self._pool.shutdown(wait=False)
                self._pool = None

    def pool(self) -> ThreadPoolExecutor:
        """The threads, which are started as they are needed."""
        self._pool = self._pool or ThreadPoolExecutor(thread_name_prefix=self._job)
        return self._pool

    def counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which counts as busy while it is executed in a thread."""

        def counted(*args: Any) -> Any:
            with self._lock:
                self._busy += 1
            try:
                return function(*args)
            finally:
                with self._lock:
                    self._busy -= 1

        return counted


# The threads of the job whose code runs; None for code of the process itself.
_threads: ContextVar[JobThreads | None] = ContextVar("_threads", default=None)
_threads_by_job: dict[str, JobThreads] = {}


def job_scope(job: str) -> AbstractContextManager[None]:
    """The block in which code of that job is executed."""
    return _threads_by_job.setdefault(job, JobThreads(job)).scope()


def refuse_to_jobs(what: str) -> None:
    """Raise RuntimeError if the code of a job calls this."""
    if _threads.get() is not None:
        raise RuntimeError(f"{what}: all runs of the worker share it, a job leaves it as it is")


def keep_from_jobs(shared: object, *names: str) -> None:
    """Refuse these methods of what all runs share to the code of jobs."""
    for name in names:
        setattr(shared, name, _kept(f"{type(shared).__name__}.{name}", getattr(shared, name)))


def _kept(what: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def checked(*args: Any, **options: Any) -> Any:
        refuse_to_jobs(what)
        return method(*args, **options)

    return checked


def share_with_jobs(loop: asyncio.AbstractEventLoop) -> None:
    """Let the process go on whatever jobs do to its loop; called once, before it runs.

    `asyncio.all_tasks` names only tasks of jobs: a job may cancel, or wait for, all it names, and
    those of the process and of other runs must go on. What ends or replaces parts of the loop is
    refused. Threads that never end occupy those of their job only. A child that a job forks does
    not go on with the loop, whose connections are those of the process.
    """
    loop.set_task_factory(cast("Any", _start_task))
    own = loop.run_in_executor

    def run_in_executor(executor: Any, function: Any, *args: Any) -> Any:
        threads = _threads.get()
        if executor is None and threads is not None:
            executor, function = threads.pool(), threads.counting(function)
        return own(executor, function, *args)

    cast("Any", loop).run_in_executor = run_in_executor
    keep_from_jobs(
        loop,
        *("set_task_factory", "set_default_executor"),
        *("shutdown_asyncgens", "shutdown_default_executor"),
    )
    os.register_at_fork(after_in_child=partial(_leave_to_parent, loop))


def _start_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
) -> "asyncio.Task[Any]":
    task = asyncio.Task(coro, loop=loop, **options)
    if _threads.get() is None:
        _unregister_task(task)
    return task


def _leave_to_parent(loop: asyncio.AbstractEventLoop) -> None:
    """Cut the loop of a forked child off from the signals and connections of its parent.

    The child may leave, or execute another program; if it goes on in the loop, it ends.
    """
    if loop.is_closed():
        return
    signal.set_wakeup_fd(-1)  # else a signal for the child would reach the parent
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL)
    nothing, own = os.open(os.devnull, os.O_RDWR), cast("Any", loop)
    for key in own._selector.get_map().values():  # noqa: SLF001 - asyncio has no public way
        os.dup2(nothing, key.fd)
    os.close(nothing)
    own._selector = selectors.DefaultSelector()  # noqa: SLF001 - as above; epoll is shared with the parent
    loop.call_soon(_end_forked)


def _end_forked() -> None:
    fix = "a child that a job forks ends with os._exit, or executes another program"
    _log.error("process.forked", pid=os.getpid(), fix=fix)
    os._exit(1)
