"""How many long responses are open at once, of each organisation and in all."""

import contextlib
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(slots=True)
class OpenStreams:
    """Counts open streams; the operator's (None) are bounded only by `total`.

    `per_org`: of one organisation. All organisations together leave a tenth to the operator.
    """

    total: int
    per_org: int
    _open: Counter[UUID | None] = field(default_factory=Counter[UUID | None])

    def has_room(self, org_id: UUID | None) -> bool:
        count = self._open.total()
        if org_id is None:
            return count < self.total
        of_all = count - self._open[None]
        return (
            self._open[org_id] < self.per_org
            and of_all < self.total - self.total // 10
            and count < self.total
        )

    @contextlib.contextmanager
    def hold(self, org_id: UUID | None) -> Generator[None]:
        """Count one stream as open while the block lasts."""
        self._open[org_id] += 1
        try:
            yield
        finally:
            self._open[org_id] -= 1
            if not self._open[org_id]:
                del self._open[org_id]
