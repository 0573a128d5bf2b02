"""What the tests of this room may use."""

from tests.api.visitors import api, org, other, visitor

__all__ = ["api", "org", "other", "visitor"]
