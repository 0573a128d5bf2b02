"""What the tests of this room may use."""

from tests.api.clients import api, org, other, visitor

__all__ = ["api", "org", "other", "visitor"]
