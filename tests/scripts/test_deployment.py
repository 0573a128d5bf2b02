"""The deployment files fit each other and the code; the image is built where an engine runs."""

import importlib.util
import json
import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.main import COMMANDS
from app.core.config import Config
from tests.configs import NO_POSTGRES

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
ORDERS = [
    line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")
]


def arguments(order: str) -> list[str]:
    return [rest.strip() for name, rest in (o for o in ORDERS if len(o) > 1) if name == order]


def engine() -> bool:
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)  # noqa: S607 - from the PATH
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def test_the_image_is_pinned_not_root_and_has_a_health_check() -> None:
    bases = [base.split()[0] for base in arguments("FROM")]

    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)
    assert arguments("USER")[-1] == "rollcall"
    assert any("HEALTHCHECK" in order for order in DOCKERFILE.splitlines())
    assert "/livez" in DOCKERFILE
    assert "--require-hashes" in DOCKERFILE


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = [
        source.rstrip("/")
        for copy in arguments("COPY")
        if "--from" not in copy
        for source in [word for word in copy.split() if not word.startswith("--")][:-1]
    ]

    assert set(copied) == kept
    assert all((ROOT / name).exists() for name in copied)


def test_compose_runs_the_processes_of_the_procfile_after_migrating() -> None:
    services: dict[str, Any] = COMPOSE["services"]
    procfile = dict(
        line.split(": ", 1) for line in (ROOT / "Procfile").read_text("utf-8").splitlines()
    )

    assert set(services) == {"postgres", "valkey", "migrate", "worker", "web"}
    assert " ".join(services["worker"]["command"]) == procfile["worker"]
    assert " ".join(services["migrate"]["command"]) == procfile["release"]
    assert procfile["web"].split(" --port")[0] in DOCKERFILE
    assert services["worker"]["deploy"]["replicas"] == 2
    for name in ("worker", "web"):
        needed = services[name]["depends_on"]["migrate"]["condition"]
        assert needed == "service_completed_successfully"
    assert "noeviction" in services["valkey"]["command"]
    assert "SUPERUSER" not in COMPOSE["configs"]["role"]["content"]


def test_what_compose_and_app_json_set_are_settings() -> None:
    known = {name.upper() for name in Config.model_fields}
    app_json = json.loads((ROOT / "app.json").read_text("utf-8"))
    composed = {name for one in COMPOSE["services"].values() for name in one.get("environment", {})}

    assert set(app_json["env"]) <= known
    assert composed - {"POSTGRES_PASSWORD"} <= known
    assert set(app_json["formation"]) == {"web", "worker"}


def test_what_compose_and_app_json_set_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    app_json: dict[str, Any] = json.loads((ROOT / "app.json").read_text("utf-8"))["env"]
    on_heroku = {name: one["value"] for name, one in app_json.items() if "value" in one}
    composed: dict[str, str] = {}
    for service in ("migrate", "worker", "web"):
        composed |= COMPOSE["services"][service]["environment"]
    asked = {"POSTGRES_PASSWORD": "pa-ss", "SESSION_SECRET": "s" * 32}

    for values in (on_heroku, composed):
        with monkeypatch.context() as patch:
            for name, value in values.items():
                named = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: asked[found[1]], value)
                assert "$" not in named
                patch.setenv(name, named)
            loaded = Config(_env_file=None)  # pyright: ignore[reportCallIssue] - pydantic-settings' own keyword
        assert loaded.log_format == "json"


@pytest.mark.parametrize("process", ["release", "worker", "web"])
def test_a_process_of_the_procfile_names_what_exists(
    process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else the import of the worker starts servers, with the data of this checkout.
    monkeypatch.setenv("DATABASE_URL", NO_POSTGRES)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    procfile = dict(
        line.split(": ", 1) for line in (ROOT / "Procfile").read_text("utf-8").splitlines()
    )
    program, *words = procfile[process].split()

    if program == "python":
        assert words[0] == "-m"
        assert importlib.util.find_spec(f"{words[1]}.__main__") is not None
        assert [word for word in words[2:] if word not in COMMANDS] == []
        return
    module, _, attribute = words[0].replace(":", ".").rpartition(".")
    assert hasattr(import_module(module), attribute)
    assert importlib.util.find_spec(program) is not None


def test_every_file_names_a_python_that_the_project_supports() -> None:
    minimum = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    named = (ROOT / ".python-version").read_text("utf-8").strip()

    assert tuple(map(int, named.split("."))) >= minimum
    assert all(base.startswith(f"python:{named}-") for base in arguments("FROM"))


def test_the_version_is_in_one_place() -> None:
    stated = re.compile(rf"(?<![\d.]){re.escape(PROJECT['version'])}(?![\d.])")
    files = [
        path
        for folder in ("app", "workers", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        if stated.search(path.read_text("utf-8"))
    ]
    others = [ROOT / name for name in ("Dockerfile", "compose.yaml", "app.json", "Procfile")]

    assert [*files, *(path for path in others if stated.search(path.read_text("utf-8")))] == []


@pytest.mark.skipif(not engine(), reason="no container engine runs here")
def test_the_image_is_built_and_runs() -> None:
    tag = "rollcall:test"
    subprocess.run(["docker", "build", "--quiet", "--tag", tag, ROOT], check=True)  # noqa: S603, S607 - from the PATH
    done = subprocess.run(  # noqa: S603 - ourselves
        ["docker", "run", "--rm", tag, "sh", "-c", "id -u; rollcall --help"],  # noqa: S607 - from the PATH
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("10001\n")
    assert "Usage: rollcall" in done.stdout
