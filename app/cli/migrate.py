"""The `migrate` command: upgrade the database schema."""

import typer

from app import context, migrations
from app.cli import terminal

app = typer.Typer()


@app.command()
def migrate() -> None:
    """Upgrade the database schema to the latest revision.

    Example: `python -m app migrate`
    """
    config = terminal.load_config()
    if config.database_url is None:
        context.server_urls(config)  # starting the private servers upgrades their schema
    else:
        migrations.upgrade(config.database_url.get_secret_value())
