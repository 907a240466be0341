"""How often a client may ask: sliding windows of the kept library `limits`, in this process."""

from __future__ import annotations

import math
import time

from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from service.errors import TooManyRequestsError

# A client has two counters for each rate; with more clients than this all begin anew.
MOST_COUNTERS = 20_000


class Rates:
    """Counts requests by client. `limit` is as `limits` writes it: `20/second;600/minute`."""

    def __init__(self, limit: str) -> None:
        self._rates = parse_many(limit)
        self._storage = MemoryStorage()
        self._windows = SlidingWindowCounterRateLimiter(self._storage)

    def take(self, client: str) -> None:
        """Counts one request.

        Raises:
            TooManyRequestsError: it is one too many.
        """
        if len(self._storage.storage) > MOST_COUNTERS:
            self._storage.reset()
        for rate in self._rates:
            if not self._windows.hit(rate, client):
                free_at = self._windows.get_window_stats(rate, client).reset_time
                seconds = max(1, math.ceil(free_at - time.time()))
                raise TooManyRequestsError(f"more than {rate} is not allowed", seconds)
