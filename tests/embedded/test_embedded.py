"""The private servers, for real: shared, kept, stopped with the last user, recovered."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from redis import Redis
from redis.exceptions import RedisError

from app import embedded
from app.core.errors import ServersUnavailable
from app.embedded.place import prepare_directories
from app.embedded.redis import Redis as EmbeddedRedis
from app.embedded.redis import binary
from tests.servers import PrivatePostgres, PrivateRedis, create_database, drop_database, redis_url
from tests.wait import block_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")

PROJECT = Path(embedded.__file__).resolve().parents[2]
USER = """
import sys
from pathlib import Path
from app.embedded import start
servers = start(Path(sys.argv[1]), discard=len(sys.argv) > 2)
print(servers.database_url, servers.redis_url, sep="\\n", flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the servers until told to end."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-c", USER, str(data_dir), *options],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def urls(self) -> tuple[str, str]:
        assert self.process.stdout
        return self.process.stdout.readline().strip(), self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def serving(data_dir: Path) -> dict[int, str]:
    """The keeper and the servers of `data_dir`: pid and command line."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                inside = (entry / "cwd").readlink().is_relative_to(data_dir)
                if inside or f"app.embedded {data_dir} " in words:
                    found[int(entry.name)] = words
    return found


def pid_of(data_dir: Path, word: str) -> int:
    return next(pid for pid, words in serving(data_dir).items() if word in words.split(" --")[0])


def client(url: str) -> Redis:
    path, _, database = url.removeprefix("unix://").partition("?db=")
    return Redis(unix_socket_path=path, db=int(database), decode_responses=True)


def answers(url: str) -> bool:
    with client(url) as redis:
        try:
            return redis.get("nothing") is None
        except RedisError:
            return False


async def remember(database_url: str, url: str, word: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
    await connection.execute("INSERT INTO words VALUES ($1)", word)
    await connection.close()
    with client(url) as redis:
        redis.set("word", word)


async def recall(database_url: str, url: str) -> tuple[object, object]:
    connection = await asyncpg.connect(database_url)
    row: object = await connection.fetchval("SELECT word FROM words")
    await connection.close()
    with client(url) as redis:
        return row, redis.get("word")


@pytest.fixture(scope="module")
def used() -> Iterator[list[Path]]:
    """Folders whose servers must be gone in the end."""
    folders: list[Path] = []
    yield folders
    block_until(lambda: not any(serving(folder) for folder in folders))


@pytest.fixture
def data_dir(tmp_path: Path, used: list[Path]) -> Path:
    used.append(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def servers(data_dir: Path) -> Iterator[embedded.Servers]:
    running = embedded.start(data_dir)
    yield running
    running.close()


def test_processes_that_start_at_once_share_one_pair(data_dir: Path) -> None:
    users = [User(data_dir) for _ in range(3)]

    urls = {user.urls() for user in users}
    processes = list(serving(data_dir).values())
    for user in users:
        user.end()

    assert len(urls) == 1
    assert sum("app.embedded" in words for words in processes) == 1
    assert sum("postgres -D" in words for words in processes) == 1
    assert sum("--unixsocket" in words for words in processes) == 1


def test_a_process_that_asks_twice_gets_the_same_answer(servers: embedded.Servers) -> None:
    again = embedded.start(servers.data_dir)

    assert again is servers


def test_the_keeper_is_out_of_reach_of_the_terminal(servers: embedded.Servers) -> None:
    keeper = pid_of(servers.data_dir, "app.embedded")

    assert os.getsid(keeper) != os.getsid(0)


async def test_servers_stop_with_the_last_user_and_keep_the_data(data_dir: Path) -> None:
    first, second = User(data_dir), User(data_dir)
    urls = first.urls()
    second.urls()
    await remember(*urls, "kept")

    first.end()
    alive_for_the_second = answers(urls[1])
    second.end()
    block_until(lambda: not serving(data_dir))
    sockets_left = (data_dir / "run").exists()
    third = embedded.start(data_dir)
    kept = await recall(third.database_url, third.redis_url)
    third.close()

    assert alive_for_the_second
    assert not sockets_left
    assert kept == ("kept", "kept")


def test_servers_of_a_lab_leave_no_files_when_their_process_is_killed(data_dir: Path) -> None:
    user = User(data_dir, "discard")
    user.urls()

    user.kill()

    block_until(lambda: not serving(data_dir) and not data_dir.exists())


def test_killed_users_count_as_gone(data_dir: Path) -> None:
    users = [User(data_dir), User(data_dir)]
    for user in users:
        user.urls()

    for user in users:
        user.kill()

    block_until(lambda: not serving(data_dir))


async def test_after_kill_9_of_everything_the_next_start_recovers(data_dir: Path) -> None:
    user = User(data_dir)
    await remember(*user.urls(), "survived")

    for pid in serving(data_dir):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    user.kill()
    servers = embedded.start(data_dir)
    survived = await recall(servers.database_url, servers.redis_url)
    servers.close()

    assert survived == ("survived", "survived")


async def test_the_servers_die_with_a_killed_keeper_and_a_new_one_takes_over(
    servers: embedded.Servers,
) -> None:
    await remember(servers.database_url, servers.redis_url, "survived")

    os.kill(pid_of(servers.data_dir, "app.embedded"), signal.SIGKILL)
    block_until(lambda: not serving(servers.data_dir))
    again = embedded.start(servers.data_dir)
    survived = await recall(again.database_url, again.redis_url)
    again.close()

    assert survived == ("survived", "survived")


def test_a_server_that_dies_is_started_again(servers: embedded.Servers) -> None:
    for word in (binary().name, "postgres"):
        before = pid_of(servers.data_dir, word)
        os.kill(before, signal.SIGKILL)
        block_until(lambda before=before: before not in serving(servers.data_dir))

    block_until(lambda: answers(servers.redis_url))
    pid_file = servers.data_dir / "postgres" / "postmaster.pid"
    block_until(lambda: pid_file.read_text().rstrip().endswith("ready"))


async def test_a_left_over_server_is_ended_before_a_new_one_starts(
    data_dir: Path,
) -> None:
    private = PrivatePostgres(data_dir)
    private.start()
    left_over = private.pid
    private.abandon()

    servers = embedded.start(data_dir)
    connection = await asyncpg.connect(servers.database_url)
    answer: object = await connection.fetchval("SELECT 1")
    await connection.close()
    servers.close()
    private.stop()

    assert left_over not in serving(data_dir)
    assert answer == 1


def test_a_stale_pid_that_is_somebody_elses_now_does_not_stop_postgres(data_dir: Path) -> None:
    private = PrivatePostgres(data_dir)
    private.start()
    private.stop()
    pid_file = data_dir / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n{data_dir}/postgres\n0\n5432\n\n\n")

    private.start()
    first_line = pid_file.read_text().splitlines()[0]
    private.close()

    assert first_line != str(os.getppid())


@pytest.mark.parametrize("name", ["with a space", "d" * 120, "comma,percent%25#?"])
async def test_any_folder_will_do(tmp_path: Path, used: list[Path], name: str) -> None:
    used.append(tmp_path)
    servers = embedded.start(tmp_path / name)

    await remember(servers.database_url, servers.redis_url, "here")
    here = await recall(servers.database_url, servers.redis_url)
    servers.close()

    assert here == ("here", "here")


@pytest.mark.parametrize("name", ["with a space", "d" * 120, "comma,percent%25#?"])
def test_a_folder_no_socket_fits_in_gets_a_short_closed_one_and_takes_it_away(
    tmp_path: Path, name: str
) -> None:
    place = prepare_directories(tmp_path / name)

    place.recreate_run()
    runtime = place.run
    mode = runtime.stat().st_mode & 0o777
    is_short = len(str(runtime)) < 80
    place.clear_run()

    assert is_short
    assert mode == 0o700
    assert not runtime.exists()
    assert not (place.data_dir / "run").is_symlink()


def test_a_file_in_place_of_the_folder_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "data").touch()

    with pytest.raises(ServersUnavailable, match=r"DATA_DIR .*/data cannot be written .*set DATA"):
        embedded.start(tmp_path / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said_clearly(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(ServersUnavailable, match=r"cannot be written \(Permission denied\)"):
        embedded.start(tmp_path / "data")


def test_what_the_keeper_cannot_do_reaches_the_user(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("9\n")

    with pytest.raises(ServersUnavailable, match="was written by Postgres 9"):
        embedded.start(data_dir)


async def test_the_role_is_no_superuser_so_that_row_level_security_holds(
    servers: embedded.Servers,
) -> None:
    dsn = await create_database(servers, "of_a_test")
    connection = await asyncpg.connect(dsn)

    superuser: object = await connection.fetchval(
        "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    )
    await connection.close()
    await drop_database(servers, "of_a_test")

    assert superuser is False


def test_each_xdist_worker_has_a_redis_database_of_its_own(servers: embedded.Servers) -> None:
    with client(redis_url(servers, "gw0")) as mine:
        mine.set("whose", "mine")

    with client(redis_url(servers, "gw1")) as other:
        seen = other.get("whose")

    assert seen is None


async def test_a_private_pair_can_be_killed_and_comes_back_with_its_data(
    tmp_path: Path, used: list[Path]
) -> None:
    used.append(tmp_path)
    postgres, redis = PrivatePostgres(tmp_path / "postgres"), PrivateRedis(tmp_path / "redis")
    postgres.start()
    redis.start()
    await remember(postgres.url, redis.url, "survived")

    postgres.kill()
    redis.kill()
    postgres.start()
    redis.start()
    survived = await recall(postgres.url, redis.url)
    postgres.close()
    redis.close()

    assert survived == ("survived", "survived")


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is first on the PATH of the keeper."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")  # noqa: TID251 - the child's
    return folder


def install(folder: Path, script: str) -> Path:
    """Put a `valkey-server` there."""
    server = folder / "valkey-server"
    server.write_text(f"#!/bin/sh\n{script}\n")
    server.chmod(0o755)
    return server


CANNOT_READ = """
[ "$1" = --version ] && exit 0
[ -e appendonlydir ] && { echo "Can't handle RDB format version 11"; exit 1; }
"""


async def test_the_server_that_wrote_the_data_is_used_after_another_is_installed(
    servers: embedded.Servers, on_path: Path
) -> None:
    await remember(servers.database_url, servers.redis_url, "kept")
    servers.close()
    block_until(lambda: not serving(servers.data_dir))

    install(on_path, f'{CANNOT_READ} exec {binary()} "$@"')
    again = embedded.start(servers.data_dir)
    kept = await recall(again.database_url, again.redis_url)
    again.close()

    assert kept == ("kept", "kept")
    assert again.notice is None


def test_a_broken_server_on_the_path_gives_way_to_the_next(data_dir: Path, on_path: Path) -> None:
    good = binary()
    install(on_path, "echo 'error while loading shared libraries'; exit 127")

    found = binary()
    install(on_path, '[ "$1" = --version ] || exit 1')
    servers = embedded.start(data_dir)
    ready = answers(servers.redis_url)
    servers.close()

    assert found == good
    assert ready
    assert servers.notice is None


async def test_data_that_no_server_can_read_is_set_aside_with_a_line_that_says_so(
    servers: embedded.Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    await remember(servers.database_url, servers.redis_url, "lost")
    servers.close()
    block_until(lambda: not serving(servers.data_dir))
    for part in (servers.data_dir / "redis").glob("appendonlydir/*.rdb"):
        part.write_bytes(b"REDIS9999" + b"\xff" * 40)

    again = embedded.start(servers.data_dir)
    row, word = await recall(again.database_url, again.redis_url)
    again.close()
    (aside,) = servers.data_dir.glob("redis.unreadable-*")

    assert (row, word) == ("lost", None)
    assert again.notice is not None
    assert str(aside) in again.notice
    assert list(aside.glob("appendonlydir/*.rdb"))
    assert "redis.data_set_aside" in "".join(capfd.readouterr())
    assert str(aside) in (servers.data_dir / "log" / "keeper.log").read_text()


def test_data_stays_where_it_is_if_no_server_starts_without_it_either(
    tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = install(on_path, '[ "$1" = --version ] || { echo "out of memory"; exit 1; }')
    monkeypatch.setattr("app.embedded.redis._installed", lambda: iter([server]))
    home = tmp_path / "redis"
    redis = EmbeddedRedis(home, socket_path=tmp_path / "s", log=tmp_path / "log")
    redis.prepare()
    (home / "appendonlydir").mkdir()

    redis.launch()
    with pytest.raises(ServersUnavailable, match="out of memory"):
        redis.wait_ready()

    assert (home / "appendonlydir").exists()
    assert not list(tmp_path.glob("redis.unreadable-*"))
