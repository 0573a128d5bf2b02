"""What the tests of this room may use."""

from tests.web.harness import redis, redis_server, web

__all__ = ["redis", "redis_server", "web"]
