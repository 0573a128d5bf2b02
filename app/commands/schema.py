"""The command about the schema: `migrate`."""

import typer

from app import migrations, resources, terminal

app = typer.Typer()


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date.

    Example: `python -m app migrate`
    """
    config = terminal.config()
    if config.database_url is None:
        resources.urls(config)  # starting the private servers brings their schema up to date
    else:
        migrations.upgrade(config.database_url.get_secret_value())
