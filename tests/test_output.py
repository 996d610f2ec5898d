"""What programs write beside their runs: whole or named; and a run that is finished, named by its type."""

import dataclasses
import json

import pytest
from test_runs import Config, walk

from runs import Finished, RunError, output
from vision.classification.search import Config as SearchConfig
from vision.classification.search import search


def test_a_file_is_whole_or_named_and_what_was_there_stays(tmp_path):
    output.write(tmp_path / "made" / "result.json", "{}", "--folder")
    assert (tmp_path / "made" / "result.json").read_text() == "{}"
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="there is a folder.*move it away"):
        output.write(tmp_path / "there", b"x", "--out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "there"]  # nothing half written beside it
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not write .*file/result.json"):
        output.write(tmp_path / "file" / "result.json", b"x", "--out")


def test_a_finished_run_is_recognized_by_its_type_and_another_config_is_not(tmp_path):
    config = Config(folder=tmp_path)
    walk(config)
    with pytest.raises(Finished, match="is finished"):
        walk(config)
    with pytest.raises(RunError, match="--rate: 0.5 there, 0.25 here") as refused:
        walk(dataclasses.replace(config, rate=0.25))
    assert not isinstance(refused.value, Finished)


@pytest.mark.parametrize("name", ["checkpoint", "videos"])
def test_a_file_in_a_folders_place_is_named_and_erases_no_log(tmp_path, name):
    config = Config(folder=tmp_path, save_every=300.0)
    with pytest.raises(MemoryError):
        walk(config, die_at=34)
    run = tmp_path / "Nowhere" / "walk-1"
    kept = (run / "metrics.jsonl").read_bytes()
    (run / name).rmdir() if (run / name).exists() else None
    (run / name).write_text("")
    with pytest.raises(RunError, match=f"{name} is not a folder, where a run has one: move it away"):
        walk(config)
    assert kept and (run / "metrics.jsonl").read_bytes() == kept


@pytest.mark.slow
def test_a_search_goes_on_with_the_same_flags_and_leaves_that_with_others_alone(tmp_path):
    from tests.faults.programs import draw

    draw(tmp_path / "pictures")
    config = SearchConfig(
        data=str(tmp_path / "pictures"),
        backbone="lenet5",
        flags="--size 16 --batch 4 --no-bf16",
        runs=1,
        rounds=1,
        steps=8,
        folder=tmp_path / "runs",
        device="cpu",
        threads=1,
    )
    first = search(config)
    assert search(config) == first
    search(dataclasses.replace(config, flags="--size 16 --batch 8 --no-bf16"))
    runs = (tmp_path / "runs").glob("*/classification-*/config.json")
    assert sorted(json.loads(path.read_text())["config"]["batch"] for path in runs) == [4, 8]


@pytest.mark.parametrize("name", ["backbone.safetensors", "snapshots/000000000010.pt"])
def test_what_is_damaged_while_its_run_stood_still_is_named_at_the_end(tmp_path, name):
    def keep(run, step):
        if step == 10:
            with run.writing(name) as path:
                path.write_bytes(b"weights")

    config = Config(folder=tmp_path)
    with pytest.raises(MemoryError):
        walk(config, die_at=34, act=keep)
    file = tmp_path / "Nowhere" / "walk-1" / name
    file.write_bytes(b"weightz")
    for _ in range(2):
        with pytest.raises(RunError, match=f"{name} is not what the run has written.*--accept-loss"):
            walk(config, act=keep)
    file.write_bytes(b"weights")
    run, _ = walk(config, act=keep)
    assert run.step == 40 and (run.folder / "finished.json").exists()
