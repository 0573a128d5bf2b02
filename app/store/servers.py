"""URLs of Postgres and Redis: the configured servers, or the embedded ones."""

from dataclasses import dataclass

from app.core.config import Config


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """URLs of Postgres and Redis: the configured servers, or the embedded ones."""

    database: str
    redis: str


def server_urls(config: Config) -> ServerUrls:
    """URLs of the configured servers; those not configured are started, embedded, in DATA_DIR.

    Raises ServersUnavailable if an embedded server is needed and cannot be started.
    """
    database, redis = config.database_url, config.redis_url
    if database is not None and redis is not None:
        return ServerUrls(database.get_secret_value(), redis.get_secret_value())
    from app import embedded, migrations  # noqa: PLC0415 - not imported in production

    servers = embedded.start(config.data_dir)
    if database is None:
        migrations.upgrade(servers.database_url)
    return ServerUrls(
        servers.database_url if database is None else database.get_secret_value(),
        servers.redis_url if redis is None else redis.get_secret_value(),
    )
