"""Whose turn it is, and where there is room."""

import datetime as dt

import pytest

from service.job_order import Devices, Waiting, in_turn


def test_models_take_turns() -> None:
    """A hundred jobs of one model delay another model's by no more than one."""
    waiting = [Waiting(i, f"a{i}", "a", "auto") for i in range(100)]
    waiting += [Waiting(100 + i, f"b{i}", "b", "auto") for i in range(2)]
    waiting += [Waiting(200, "c0", "c", "auto")]
    served: dict[str, dt.datetime] = {}
    begun = []
    for minute in range(7):
        job = in_turn(waiting, served)[0]
        served[job.model] = dt.datetime(2026, 1, 1, 0, minute, tzinfo=dt.UTC)
        waiting.remove(job)
        begun.append(job.id)
    assert begun == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


@pytest.mark.parametrize(
    ("wish", "default", "n_gpus", "used", "device"),
    [
        ("auto", "auto", 0, {}, "cpu"),
        ("auto", "auto", 2, {}, "cuda:0"),
        ("auto", "auto", 2, {"cuda:0": 1}, "cuda:1"),
        ("auto", "auto", 2, {"cuda:0": 1, "cuda:1": 1}, None),
        ("auto", "cpu", 2, {"cuda:0": 1, "cuda:1": 1}, "cpu"),
        ("cpu", "auto", 1, {"cuda:0": 1, "cpu": 7}, "cpu"),
        ("cuda", "cpu", 1, {"cuda:0": 1}, None),
        ("cuda:0", "auto", 2, {"cuda:0": 1}, None),
        ("cuda:1", "auto", 2, {"cuda:0": 1}, "cuda:1"),
        # Not here: the job is begun, and fails with the reason.
        ("cuda", "auto", 0, {}, "cuda"),
        ("cuda:7", "auto", 2, {"cuda:7": 5}, "cuda:7"),
    ],
)
def test_a_job_is_placed_where_there_is_room(
    wish: str, default: str, n_gpus: int, used: dict[str, int], device: str | None
) -> None:
    assert Devices(default, n_gpus).place(wish, used) == device


def test_a_gpu_takes_as_many_jobs_as_it_has_slots() -> None:
    devices = Devices("auto", n_gpus=2, slots=3)
    used: dict[str, int] = {}
    while device := devices.place("auto", used):
        used[device] = used.get(device, 0) + 1
    assert used == {"cuda:0": 3, "cuda:1": 3}
