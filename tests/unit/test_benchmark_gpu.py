"""What a GPU is measured by; here the CPU stands in for one."""

import argparse
import io

import pytest
import torch
from rich.console import Console

from benchmarks import gpu
from benchmarks.__main__ import BENCHMARKS


def test_it_runs_by_name() -> None:
    assert BENCHMARKS["gpu"] is gpu.run


def test_where_there_is_no_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.run(argparse.Namespace())
    assert capsys.readouterr().out == "gpu: not measured, there is no CUDA device here\n"


def test_the_table_has_a_row_for_each_t_and_n(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "ROUNDS", 2)
    table = gpu.compare("cpu", (3, 5), (1, 2))
    text = io.StringIO()
    Console(file=text, width=110).print(table)
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text.getvalue().splitlines()
        if line.startswith("│")
    ]
    assert [row[:2] for row in cells] == [["3", "1"], ["3", "2"], ["5", "1"], ["5", "2"]]
    for row in cells:
        assert all(float(ms) > 0.0 for ms in row[2:6])
        assert float(row[6]) == 0.0
