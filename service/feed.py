"""Live events of jobs: one look at the database for all listeners of a process."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from service.database import OUTAGES
from service.job_rows import FINISHED
from service.jobs import Jobs
from service.tables import Job, JobEvent

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
PAGE = 500
RETRY_SECONDS = 1.0


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
        self, job: Job, after: int, heartbeat_seconds: float
    ) -> AsyncIterator[JobEvent | None]:
        """Events with ids beyond `after`, in order, until the job has ended; None whenever
        nothing has come for so long, and while the database does not answer. A listener to
        whom nothing happens asks the database nothing."""
        if job.status in FINISHED and after >= job.last_event:
            return
        # Of ids that are still to come, too, the end of the job has to be seen.
        read = min(after, job.last_event)
        has_news = True
        with self._listening(job.id):
            while not self._closed:
                events, more = await self._read(job.id, read) if has_news else ([], False)
                for event in events:
                    read = event.id
                    if read > after:
                        yield event
                if events and not more and events[-1].data.get("status") in FINISHED:
                    return
                has_news = more or await self._hear(job.id, read, heartbeat_seconds)
                if not has_news or not events:
                    yield None

    @contextmanager
    def _listening(self, job_id: str) -> Iterator[None]:
        self._listeners[job_id] += 1
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self._listeners[job_id] -= 1
            if not self._listeners[job_id]:
                del self._listeners[job_id]
                self._last.pop(job_id, None)

    def stop(self) -> None:
        """Ends all streams within moments, so that the process can end; from any thread."""
        self._closed = True

    async def _read(self, job_id: str, after: int) -> tuple[list[JobEvent], bool]:
        """A page of what there is to tell, and whether to ask for more."""
        try:
            return await asyncio.to_thread(
                self._jobs.events, job_id, after=after, limit=PAGE, ascending=True
            )
        except OUTAGES:
            await asyncio.sleep(RETRY_SECONDS)
            return [], True

    async def _hear(self, job_id: str, after: int, seconds: float) -> bool:
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
            except OUTAGES as error:
                # Listeners wait on; the next look may succeed.
                log.warning("cannot look for events: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("cannot look for events")
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if any(self._last.get(job_id) != number for job_id, number in last.items()):
                    async with self._news:
                        self._last.update(last)
                        self._news.notify_all()
            await asyncio.sleep(LOOK_SECONDS)
        self._watching = None
        async with self._news:
            self._news.notify_all()
