"""Discovery of own jobs: in the folders and modules of JOBS, and in installed packages."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from app.core.config import Config
from app.core.errors import BadJob
from app.core.setting_types import DEFAULT_JOBS
from workers.job import Job, declared_meanwhile

ENTRY_POINTS = "rollcall.jobs"  # the group in which an installed package names its modules
JOB_OF_CLASS = "rollcall_job"  # the attribute of a source's class that holds its job
PRODUCT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Discovered:
    """The jobs that were found, and what could not be loaded: where, why, and how to fix it."""

    jobs: tuple[Job, ...] = ()
    faults: tuple[str, ...] = ()


def discover(config: Config, built_in: Sequence[Job]) -> Discovered:
    """The own jobs that these settings name. What cannot be loaded does not stop the others.

    Of two jobs of one name the first is kept, and a job that has a built-in job's name is not.
    """
    found = _load(config.jobs, str(Path.cwd()))
    jobs: dict[str, Job] = {job.name: job for job in built_in}
    faults = list(found.faults)
    own: list[Job] = []
    for job in (one for one in found.jobs if one not in built_in):  # a file may import those
        other = jobs.setdefault(job.name, job)
        if other is job:
            own.append(job)
        else:
            where = "built in" if other in built_in else f"at {other.defined_at}"
            faults.append(
                f"{job.defined_at}: the job {job.name!r} is also {where}: rename one with name=…"
            )
    return Discovered(tuple(own), tuple(faults))


@cache
def _load(entries: tuple[str, ...], folder: str) -> Discovered:
    """Import everything once; `folder` is the working directory, for relative paths."""
    jobs: dict[int, Job] = {}
    faults: list[str] = []
    modules: set[str] = set()
    declared: list[Job] = []
    recording = declared_meanwhile.set(declared)
    for what, load in (*_named(entries, Path(folder)), *_installed()):
        try:
            found = load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others; reported
            faults.append(_describe(what, error))
        else:
            jobs |= {id(job): job for job in _jobs_in(found)}
            if isinstance(found, ModuleType):
                modules.add(found.__name__)
    declared_meanwhile.reset(recording)
    faults += [
        f"{job.defined_at}: the job {job.name!r} is in no variable of its file, as when another of"
        " the same name replaces it: give each a name of its own"
        for job in declared
        if id(job) not in jobs and job.function.__module__ in modules
    ]
    return Discovered(tuple(jobs.values()), tuple(faults))


def _named(entries: Sequence[str], folder: Path) -> Iterator[tuple[str, Callable[[], ModuleType]]]:
    """What each entry of JOBS names, and the function that imports it."""
    for entry in entries:
        paths = [base / entry for base in (folder, PRODUCT) if (base / entry).exists()]
        if not paths:
            if (entry,) != DEFAULT_JOBS:
                yield f"JOBS={entry}", lambda entry=entry: _import(entry)
            continue
        path = paths[0].resolve()
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        for file in files:
            if not file.name.startswith(("_", "test_", "conftest.")):
                yield str(file), lambda file=file: import_file(file)


def _installed() -> Iterator[tuple[str, Callable[[], Any]]]:
    for entry in entry_points(group=ENTRY_POINTS):
        package = entry.dist.name if entry.dist else "?"
        yield f"{ENTRY_POINTS} {entry.name} = {entry.value} of {package}", entry.load


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise BadJob(
            f"JOBS={name}: there is neither a folder nor a module of that name; correct JOBS"
        ) from None


def import_file(file: Path) -> ModuleType:
    """Import a file as `<folder>.<name>`, the name under which its neighbours import it too."""
    folder = file.parent
    name = f"{folder.name}.{file.stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    if str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    if folder.name not in sys.modules:
        package = ModuleType(folder.name)
        package.__path__ = [str(folder)]
        sys.modules[folder.name] = package
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadJob(f"{file}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _jobs_in(found: Any) -> Iterator[Job]:
    """The jobs of a module, or the one that an entry point names."""
    values = vars(found).values() if isinstance(found, ModuleType) else (found,)
    for value in list(values):
        job = value if isinstance(value, Job) else _job_of_class(value)
        if job is not None:
            yield job


def _job_of_class(value: Any) -> Job | None:
    job = vars(value).get(JOB_OF_CLASS) if isinstance(value, type) else None
    return job if isinstance(job, Job) else None


def _describe(what: str, error: BaseException) -> str:
    """The place of an error, what it is, and how to fix it."""
    if isinstance(error, BadJob):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}: correct the line"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == what] or [
        frame
        for frame in frames
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else what
    fix = "correct it, or take the file out of JOBS"
    if isinstance(error, ModuleNotFoundError):
        fix = f"install {error.name}, or correct the import"
    return f"{where}: {type(error).__name__}: {error}: {fix}"
