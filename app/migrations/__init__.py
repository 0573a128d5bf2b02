"""The schema's history, and the way up and down it."""

from pathlib import Path

from alembic import command
from alembic.config import Config

HERE = Path(__file__).parent


def upgrade(dsn: str, revision: str = "head") -> None:
    """Bring the database up to `revision`. Two at once wait for each other."""
    command.upgrade(_config(dsn), revision)


def downgrade(dsn: str, revision: str) -> None:
    """Take the database back to `revision`."""
    command.downgrade(_config(dsn), revision)


def _config(dsn: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.attributes["dsn"] = dsn
    return config
