"""The web process does not look for garbage among its modules."""

from app.web.garbage import NEW_OBJECTS
from tests.fresh_process import printed_by

PROBE = "from app.web import app; import gc; print(gc.get_freeze_count(), *gc.get_threshold())"


def test_modules_are_left_out_of_collections() -> None:
    frozen, new, *_ = map(int, printed_by(PROBE).split())

    assert frozen > 50_000
    assert new == NEW_OBJECTS
