"""The `migrate` command: upgrade the database schema."""

import typer

from app import migrations
from app.cli import terminal
from app.store import servers

app = typer.Typer()


@app.command()
def migrate() -> None:
    """Upgrade the database schema to the latest revision.

    Example: `python -m app migrate`
    """
    config = terminal.load_config()
    if config.database_url is None:
        servers.server_urls(config)  # starting the private servers upgrades their schema
    else:
        migrations.upgrade(config.database_url.get_secret_value())
