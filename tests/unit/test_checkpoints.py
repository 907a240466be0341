"""Each run of a job writes into a folder of its own, which begins as the last one's."""

from pathlib import Path

from service.checkpoints import open_folder


def test_a_run_goes_on_where_the_one_before_was_and_out_of_its_reach(tmp_path: Path) -> None:
    job = tmp_path / "job"
    first = open_folder(job, 1, "cuda:0")
    (first / "checkpoint").write_text("epoch 3")
    (first / "checkpoint.partial").write_text("half of epoch 4")
    (first / "artifact").mkdir()
    assert open_folder(job, 1, "cuda:0") == first
    # A run that is thought dead holds on to its folder.
    late = (first / "checkpoint").open("r")
    second = open_folder(job, 2, "cuda:1")
    assert {file.name: file.read_text() for file in second.iterdir()} == {"checkpoint": "epoch 3"}
    assert not first.exists()
    with late:
        assert late.read() == "epoch 3"
    third = open_folder(job, 3, "cpu")
    assert list(third.iterdir()) == [], "a GPU's checkpoint leads to other weights on a processor"
    assert list(job.iterdir()) == [third]
