"""How often models without a price were refused: counted here, written every few seconds."""

import logging
from datetime import UTC, datetime
from typing import Final

from django.db import DataError

from gateway.database import Database
from gateway.errors import GatewayError, ModelUnpriced
from spend.services import unpriced
from spend.services.unpriced import Refused

log = logging.getLogger(__name__)

MODELS_MAX: Final = 1_000
"""Different models between two writings; beyond them none is counted."""


class UnpricedCounts:
    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Refused] = {}

    def note(self, refusal: GatewayError) -> None:
        """Count a request that was refused, if it was for want of a price."""
        if not isinstance(refusal, ModelUnpriced):
            return
        now = datetime.now(UTC)
        self._add((refusal.provider, refusal.upstream_model), Refused(1, now, now))

    async def write(self, database: Database) -> None:
        """Add what was counted to the queue in Postgres; keep it if Postgres is away."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            await database.run(unpriced.add_refused, counts)
        except DataError:
            # They would fail for ever, and keep back those that come after.
            log.exception("unpriced_dropped", extra={"models": len(counts)})
        except BaseException:
            for key, refused in counts.items():
                self._add(key, refused)
            raise

    def _add(self, key: tuple[str, str], refused: Refused) -> None:
        kept = self._counts.get(key)
        if kept is None:
            if len(self._counts) < MODELS_MAX:
                self._counts[key] = refused
            return
        kept.requests += refused.requests
        kept.first_at = min(kept.first_at, refused.first_at)
        kept.last_at = max(kept.last_at, refused.last_at)
