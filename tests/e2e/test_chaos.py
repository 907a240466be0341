"""Kill -9 of API, workers and training processes over a stream of jobs. `CHAOS_KILLS` says how
many; `python -m benchmarks chaos` does sixty, on PostgreSQL, too."""

import os
from pathlib import Path

from benchmarks.chaos import wreak

KILLS = int(os.environ.get("CHAOS_KILLS", "3"))


def test_whatever_is_killed_every_job_ends_as_it_should(tmp_path: Path) -> None:
    toll = wreak(tmp_path / "home", None, kills=KILLS, seed=KILLS, in_line=1, calm=0.4)
    assert toll.jobs > 0
    assert toll.kills.total() == KILLS
    assert len(toll.kills) == min(KILLS, 3), "of each kind of process"
    assert (toll.lost, toll.doubled, toll.halves, toll.different) == ([], [], [], [])
    assert toll.left == [], "nothing is left lying about"
