"""What the tests of this room may use."""

from collections.abc import Iterator

import pytest

from tests.alerts.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started
