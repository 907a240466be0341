"""Live events of jobs: one look at the database for all listeners of a process."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator

from service.database import JobEvent
from service.job_rows import FINISHED
from service.jobs import Jobs

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
PAGE = 500


class Feed:
    """Tells listeners when a job has something new; idle without listeners."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._listeners: Counter[str] = Counter()
        self._last: dict[str, int] = {}
        self._news = asyncio.Condition()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    async def follow(
        self, job_id: str, after: int, heartbeat_seconds: float
    ) -> AsyncIterator[JobEvent | None]:
        """Events with ids beyond `after`, in order, until the job has ended; None whenever
        nothing has come for so long."""
        self._listeners[job_id] += 1
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        try:
            while not self._closed:
                events, more = await asyncio.to_thread(
                    self._jobs.events, job_id, after=after, limit=PAGE, ascending=True
                )
                for event in events:
                    after = event.id
                    yield event
                if more:
                    continue
                ended = [event.data.get("status") in FINISHED for event in events[-1:]]
                if ended == [True] or (not events and await self._has_ended(job_id, after)):
                    return
                if not await self._wait(job_id, after, heartbeat_seconds):
                    yield None
        finally:
            self._listeners[job_id] -= 1
            if not self._listeners[job_id]:
                del self._listeners[job_id]
                self._last.pop(job_id, None)

    def stop(self) -> None:
        """Ends all streams within moments, so that the process can end; from any thread."""
        self._closed = True

    async def _has_ended(self, job_id: str, after: int) -> bool:
        job = await asyncio.to_thread(self._jobs.get, job_id)
        return job.status in FINISHED and job.last_event <= after

    async def _wait(self, job_id: str, after: int, seconds: float) -> bool:
        """Whether there is news before the time is up."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: self._closed or self._last.get(job_id, 0) > after)
        except TimeoutError:
            return False
        return True

    async def _watch(self) -> None:
        while self._listeners and not self._closed:
            try:
                last = await asyncio.to_thread(self._jobs.last_events, list(self._listeners))
            except Exception:
                # Listeners wait on; the next look may succeed.
                log.exception("cannot look for events")
            else:
                async with self._news:
                    self._last.update(last)
                    self._news.notify_all()
            await asyncio.sleep(LOOK_SECONDS)
        self._watching = None
        async with self._news:
            self._news.notify_all()
