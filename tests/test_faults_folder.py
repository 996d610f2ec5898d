"""Faults of a run's folder: each file cut, flipped, emptied, replaced or deleted is named, and harms nothing."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from runs import Run, RunError, checkpoint, compare, files, publish, saved
from runs.folder import quoted
from runs.reader import RECORDS, read_records, read_run
from tests.test_replay import Game
from tests.test_runs import Config, lines, walk
from vision import backbones

from replay import RowReplay  # isort: skip


@pytest.fixture
def config(tmp_path):
    return Config(folder=tmp_path / "results")


def evaluate(run, step):
    """An evaluation at step 10, so that there is a best.pt."""
    if step == 10:
        run.log_evaluation({"eval/return": 1.0, "eval/median": 0.0, "eval/std": 0.0, "eval/games": 1})


def killed(config, **others):
    """The folder of a run that was killed at step 34, after its checkpoints of 30, 32 and 34."""
    others.setdefault("act", evaluate)
    network = torch.nn.Linear(2, 2)
    with pytest.raises(MemoryError):
        walk(config, die_at=34, network=network, **others)
    return config.folder / "Nowhere/walk-1"


def go_on(config, **others):
    others.setdefault("act", evaluate)
    return walk(config, network=torch.nn.Linear(2, 2), **others)


def flip(path, at=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 4
    path.write_bytes(data)


def checkpoints(folder, kind="pt"):
    return sorted((folder / "checkpoint").glob(f"0*.{kind}"))


# Each file, each harm: the run ends as one that was never harmed, or says in a sentence which file it is.


HARMS = {
    "flipped": flip,
    "first byte flipped": lambda path: flip(path, 0),
    "last byte flipped": lambda path: flip(path, 1 - 1e-9),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "null": lambda path: path.write_text("null"),
    "a list": lambda path: path.write_text("[]"),
    "no key": lambda path: path.write_text("{}"),
    "a text": lambda path: path.write_text('"x"'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "deleted": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link": lambda path: (path.rename(path.with_name("elsewhere")), path.symlink_to("elsewhere")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A killed run, and the metrics of one that was not."""
    config = Config(folder=tmp_path_factory.mktemp("template"))
    whole, _ = go_on(dataclasses.replace(config, name="whole"))
    return killed(config), (whole.folder / "metrics.jsonl").read_bytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
    "name",
    ["config.json", "metrics.jsonl", "clock.jsonl", "best.pt", "newest.pt", "newest.json", "every.json", "every.pt"],
)
def test_each_file_harmed(name, harm, template, config):
    before, whole = template
    folder = config.folder / "Nowhere/walk-1"
    shutil.copytree(before, folder)
    found = {"best.pt": [folder / "checkpoint/best.pt"]}.get(name, [folder / name])
    if "newest" in name or "every" in name:
        found = checkpoints(folder, name.partition(".")[2])[-1 if "newest" in name else 0 :]
    for path in found:
        HARMS[harm](path)
    try:
        run, _ = go_on(config)
    except RunError as error:
        assert name in ("metrics.jsonl", "best.pt", "every.pt", "clock.jsonl") or harm == "a folder", error
        assert str(found[0].name if name != "every.pt" else folder / "checkpoint") in str(error)
        return
    assert name not in ("every.pt", "metrics.jsonl")
    assert run.step == 40 and (folder / "metrics.jsonl").read_bytes() == whole
    assert (folder / "finished.json").is_file() and json.loads((folder / "config.json").read_text())["id"]


def test_every_flipped_bit_of_the_small_files_is_noticed_or_harmless(template, config):
    """Of config.json and a manifest: what is read back is what was written, or it is refused."""
    folder = config.folder / "run"
    shutil.copytree(template[0], folder)
    for path, kinds in ((folder / "config.json", {"id": str}), (checkpoints(folder, "json")[0], checkpoint.MANIFEST)):
        data, right = path.read_bytes(), files.unsealed(path, kinds)
        for place in range(0, len(data), 7):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 7]) + data[place + 1 :])
            try:
                assert files.unsealed(path, kinds) == right
            except files.Damaged as error:
                assert path.name in str(error)


# The log.


def test_a_changed_digit_and_a_removed_line_are_reported_and_accepted_only_on_request(config):
    folder = killed(config)
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[1:]) + " " * len(rows[0]))  # as many bytes
    with pytest.raises(RunError, match="metrics.jsonl is damaged in line 4.*--accept-loss"):
        go_on(config)
    (folder / "metrics.jsonl").write_text("".join(rows).replace("10", "11", 1))
    with pytest.raises(RunError, match="metrics.jsonl was changed: it does not match its checksum.*--accept-loss"):
        go_on(config)
    with pytest.warns(UserWarning, match="not exactly: .*metrics.jsonl was changed"):
        run, _ = go_on(dataclasses.replace(config, accept_loss=True))
    about = json.loads((run.folder / "config.json").read_text())
    assert about["inexact"][0]["step"] == 34 and "metrics.jsonl" in about["inexact"][0]["what"]
    assert [line["step"] for line in lines(run.folder)] == [11, 12, 20, 30, 40]


def test_a_log_that_is_damaged_while_the_run_goes_on_is_no_finish(config):
    def change(run, step):
        if step == 36:
            flip(run.folder / "metrics.jsonl", 0.2)

    with pytest.raises(RunError, match="metrics.jsonl was changed while the run was going"):
        walk(config, act=change)
    assert not (config.folder / "Nowhere/walk-1/finished.json").exists()

    def cut(run, step):
        if step == 12:
            os.truncate(run.folder / "metrics.jsonl", 5)

    with pytest.raises(RunError, match="it holds 5 bytes"):
        walk(dataclasses.replace(config, name="other"), act=cut)


def test_times_that_are_lost_do_not_stop_a_run(config):
    folder = killed(config)
    os.truncate(folder / "clock.jsonl", 70)
    with pytest.warns(UserWarning, match="clock.jsonl was damaged"):
        run, _ = go_on(config)
    assert run.step == 40 and lines(folder, "clock.jsonl")[-1]["step"] == 40


def test_lines_of_a_run_without_any_checkpoint_are_kept_aside(config):
    folder = killed(config)
    before = (folder / "metrics.jsonl").read_bytes()
    shutil.rmtree(folder / "checkpoint")
    with pytest.warns(UserWarning, match="begins again, and its lines so far are in .*metrics.jsonl.1"):
        go_on(config)
    assert (folder / "metrics.jsonl.1").read_bytes() == before and lines(folder)[-1]["step"] == 40


# Whose it is.


def test_config_that_was_deleted_lets_no_other_experiment_in(config):
    folder = killed(config)
    before = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    with pytest.warns(UserWarning, match="config.json is missing: it is written again"):
        with pytest.raises(RunError, match="--rate: 0.5 there, 0.25 here"):
            go_on(dataclasses.replace(config, rate=0.25))
        run, _ = go_on(config)
    assert json.loads((run.folder / "config.json").read_text()) == before


def test_a_strangers_checkpoint_is_passed_over_and_left_alone(config):
    other = killed(dataclasses.replace(config, folder=config.folder / "other", seed=2, name="walk-1"))
    folder = killed(config)
    for kind in ("pt", "json"):
        shutil.copy(checkpoints(other, kind)[-1], folder / f"checkpoint/000000000999.{kind}")
        shutil.copy(checkpoints(other, kind)[-1], folder / f"checkpoint/000000000034.{kind}")
    with pytest.warns(UserWarning, match="999.pt is skipped .belongs to another run"):
        run, _ = go_on(config)
    assert run.step == 40 and (folder / "checkpoint/000000000999.pt").exists()
    whole, _ = go_on(dataclasses.replace(config, name="whole"))
    assert (folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_a_strangers_best_and_finish_are_refused(config):
    other, _ = go_on(dataclasses.replace(config, folder=config.folder / "other"))
    folder = killed(config)
    shutil.copy(other.folder / "checkpoint/best.pt", folder / "checkpoint/best.pt")
    with pytest.raises(RunError, match="best.pt belongs to another run.*--accept-loss"):
        go_on(config)
    with pytest.warns(UserWarning, match="without the weights of the best evaluation so far"):
        go_on(dataclasses.replace(config, accept_loss=True))
    shutil.copy(other.folder / "finished.json", folder / "finished.json")
    with pytest.raises(RunError, match="finished.json belongs to another run"):
        go_on(config)


@pytest.mark.parametrize("content", ["null", "[]", "{}", "", '{"step": 40}'])
def test_a_damaged_finish_says_the_way_out(config, content):
    run, _ = go_on(config)
    (run.folder / "finished.json").write_text(content)
    with pytest.raises(RunError, match="finished.json .*delete it, and the same command finishes the run again"):
        go_on(config)
    (run.folder / "finished.json").unlink()
    assert go_on(config)[0].step == 40 and (run.folder / "finished.json").exists()


@pytest.mark.parametrize("what", ["all", "config.json", ".lock"])
def test_what_is_deleted_during_a_run_does_not_come_back_as_another(config, what, recwarn):
    def remove(run, step):
        if step == 16 and what == "all":
            shutil.rmtree(run.folder)
        elif step == 16:
            (run.folder / what).unlink()

    folder = config.folder / "Nowhere/walk-1"
    if what == "all":
        with pytest.raises(RunError, match="was deleted or replaced while the run was going"):
            walk(config, act=remove)
        assert not folder.exists()
    else:
        walk(config, act=remove)
        assert (folder / what).exists() and (folder / "finished.json").exists()


def test_without_its_lock_a_folder_is_still_held(config):
    held = Run(config, "tests.walk", "Nowhere")
    (held.folder / ".lock").unlink()
    with pytest.raises(RunError, match="in use"):
        Run(config, "tests.walk", "Nowhere")
    held._place.close()
    Run(config, "tests.walk", "Nowhere")._place.close()


# Links and names.


def test_no_link_is_followed(config, tmp_path):
    victim, strangers = tmp_path / "victim", tmp_path / "strangers"
    victim.write_text("precious")
    strangers.mkdir()
    (strangers / "memory-000001-4-0123456789ab.segment").write_text("theirs")
    folder = config.folder / "Nowhere/walk-1"
    for name in (".lock", "metrics.jsonl", "clock.jsonl"):
        killed(config)
        (folder / name).unlink()
        (folder / name).symlink_to(victim)
        with pytest.raises(RunError, match=f"{name} is a symbolic link"):
            go_on(config)
        assert victim.read_text() == "precious"
        shutil.rmtree(folder)
    for name in ("config.json", "config.json.tmp", "finished.json.tmp"):  # what is written anew replaces a link
        folder.mkdir(parents=True)
        (folder / name).symlink_to(victim)
        walk(config)
        assert victim.read_text() == "precious" and not (folder / "config.json").is_symlink()
        shutil.rmtree(folder)
    for name in ("checkpoint", "checkpoint/memory", "videos", "memory", "wandb"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).symlink_to(strangers)
        with pytest.raises(RunError, match="is a symbolic link, and a run follows none"):
            walk(config)
        shutil.rmtree(folder)
    assert len(list(strangers.iterdir())) == 1


def test_only_what_the_run_wrote_is_deleted(config):
    folder = killed(config)
    mine = [
        "notes.txt",
        "checkpoint/000000000001.txt",
        "checkpoint/memory/photo.jpg",
        "checkpoint/backup.pt",
        "a.tmp",
    ]
    for name in (*mine, "checkpoint/memory/memory-000001-4-0123456789ab.segment"):
        (folder / name).write_text("mine")
    go_on(config)
    assert all((folder / name).read_text() == "mine" for name in mine)
    assert not list((folder / "checkpoint/memory").glob("*.segment"))  # of a save that was killed


@pytest.mark.parametrize("name", ["..", "../../escape", "/tmp/escape", ".", "a/../../b"])
def test_a_name_that_leaves_the_folder_is_refused(config, name):
    with pytest.raises(ValueError, match="--name"):
        Run(dataclasses.replace(config, name=name), "tests.walk", "Nowhere")
    with pytest.raises(ValueError, match="world"):
        Run(config, "tests.walk", name)
    assert not config.folder.exists()


def test_printed_commands_are_for_a_shell(config, capsys):
    name = "two words; rm -rf $HOME 'x' \x1b[31mred\nline"
    walk(dataclasses.replace(config, name=name))
    said = capsys.readouterr().err
    assert "\x1b" not in said
    path = next((config.folder / "Nowhere").iterdir())
    for text in (quoted(path), quoted("plain/path"), quoted("it's here")):
        assert subprocess.run(["bash", "-c", f"printf %s {text}"], capture_output=True, text=True).stdout in (
            str(path),
            "plain/path",
            "it's here",
        )


def test_a_start_that_is_refused_leaves_nothing(config):
    run = Run(config, "tests.walk", "Nowhere")
    assert run.folder.exists()
    del run
    assert not config.folder.exists()


# Disks, memory, numbers.


def test_disk_full_while_something_is_kept_is_a_sentence(config):
    def full(run, step):
        with run.writing("backbone.safetensors"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match="could not write .*backbone.safetensors at step 0: No space left.*Make room"):
        walk(config, act=full)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:1] can't allocate memory")]
)
def test_memory_that_is_exhausted_is_a_sentence(error, monkeypatch, capsys):
    from runs import launch

    def train(config):
        raise error

    monkeypatch.setattr(Run, "stepping", True)
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit):
        launch(train, Config, None, "tests.walk", None)
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "memory" in said and len(said.splitlines()) == 1


class Holder:
    """A part whose state is a tensor somewhere inside."""

    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"state": [{"mean": torch.tensor([1.0, self.value])}], "best": float("inf")}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_that_is_no_number_is_named_and_not_saved(config, value):
    with pytest.raises(RunError, match="state.0.mean of holder became infinite or no number.*no checkpoint yet"):
        walk(config, holder=Holder(value))
    assert not checkpoints(config.folder / "Nowhere/walk-1")


# A memory.


def remember(memory, game, upto=1000):
    def act(run, step):
        if step < upto:
            memory.add(game.step())

    return act


def is_first():
    return RowReplay(200, 2, seed=1), Game(2, 4)


def test_a_damaged_memory_is_reported_and_left_out_on_request(config):
    memory, game = is_first()
    with pytest.raises(MemoryError):
        walk(config, act=remember(memory, game), die_at=34, memory=memory)
    folder = config.folder / "Nowhere/walk-1"
    oldest = min((folder / "checkpoint/memory").iterdir())
    flip(oldest)
    message = f"{oldest.name} does not match its checksum.*without the oldest 2 of the memory's 34 transitions"
    with pytest.warns(UserWarning), pytest.raises(RunError, match=message + ".*--accept-loss"):
        walk(config, memory=is_first()[0])
    memory, _ = is_first()
    with pytest.warns(UserWarning, match="goes on from step 34, but not exactly"):
        run, _ = walk(dataclasses.replace(config, accept_loss=True), memory=memory)
    assert len(memory) == 32 and run.step == 40
    about = json.loads((folder / "config.json").read_text())
    assert oldest.name in about["inexact"][0]["what"] and not oldest.exists()
    assert saved.state(folder, "last")["step"] == 40  # watching needs no memory at all


def test_a_reward_that_is_no_number_is_in_no_checkpoint(config):
    memory, game = is_first()

    def spoil(run, step):
        record = game.step()
        if step == 20:
            record.reward[0] = float("nan")
        memory.add(record)

    with pytest.raises(
        RunError, match="reward in the memory is NaN or infinite, by step 22. Kept: the checkpoint of step 20"
    ):
        walk(config, act=spoil, memory=memory)
    memory, game = is_first()
    run, _ = walk(config, act=remember(memory, game), memory=memory)
    assert run.step == 40


# Going on.


def test_a_run_that_stopped_early_is_over_also_if_killed_before_it_says_so(config, monkeypatch):
    def stop(run, step):
        if step == 20:
            run.stop()

    run, _ = walk(config, act=stop)
    (run.folder / "finished.json").unlink()
    again, _ = walk(config, act=lambda *_: pytest.fail("it trained on"))
    assert again.step == 22 and (run.folder / "finished.json").exists()
    assert [line["step"] for line in lines(run.folder)] == [10, 20, 22]


@pytest.mark.parametrize("what", ["threads", "torch"])
def test_what_changes_the_last_digits_is_said(config, what, monkeypatch):
    folder = killed(config)
    if what == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9")
        message = "torch 9.9 instead of"
    else:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        message = "threads 3 instead of"
    with pytest.warns(UserWarning, match=f"not exactly: .*{message}.*last digits"):
        go_on(dataclasses.replace(config, threads=1))
    assert message in json.loads((folder / "config.json").read_text())["inexact"][0]["what"]


# Read back by others.


def test_a_record_that_was_changed_since_is_left_out(config, capsys):
    run, _ = go_on(config)
    assert read_run(run.folder).final["eval/return"] == 1.0
    text = (run.folder / "metrics.jsonl").read_text()
    (run.folder / "metrics.jsonl").write_text(text.replace('"eval/return": 1.0', '"eval/return": 9.0'))
    with pytest.raises(ValueError, match="metrics.jsonl does not match the checksum in finished.json"):
        read_run(run.folder)
    (run.folder / "metrics.jsonl").write_text(text)
    about = (run.folder / "config.json").read_text()
    (run.folder / "config.json").write_text(about.replace('"rate": 0.5', '"rate": 0.4'))
    with pytest.raises(ValueError, match="config.json does not match its checksum"):
        read_run(run.folder)


def test_changed_times_of_a_finished_run_are_no_wall_time(config, capsys):
    run, _ = go_on(config)
    clock = run.folder / "clock.jsonl"
    assert read_run(run.folder).seconds is not None
    clock.write_text(clock.read_text().replace('"seconds": ', '"seconds": 9'))
    (found,) = compare.load([run.folder])
    assert f"{clock} was changed after the run had finished: no wall time" in capsys.readouterr().err
    assert found.seconds is None and found.final["eval/return"] == 1.0


def test_that_a_run_is_not_exact_stands_beside_its_results(config, capsys):
    folder = killed(config)
    flip(folder / "checkpoint/best.pt")
    with pytest.warns(UserWarning, match="not exactly"):
        go_on(dataclasses.replace(config, accept_loss=True))
    compare.load([folder])
    assert "not exact from step 34: " in capsys.readouterr().err
    records = publish.publish(folder, config.folder / "published", "topic").parent / RECORDS
    (record,) = read_records(records)
    assert "best.pt is damaged" in record.inexact and "sha256" not in records.read_text()


def test_weights_of_a_backbone_are_verified(tmp_path):
    path = tmp_path / backbones.FILENAME
    backbones.save(backbones.build("nature", (4, 84, 84), width=0.125), path)
    data = path.read_bytes()
    backbones.load(path)
    for place in [*range(0, 3_000, 29), *range(3_000, len(data), len(data) // 40)]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        with pytest.raises(ValueError, match="backbone.safetensors"):
            backbones.load(path)
    path.write_bytes(data[:-100])
    with pytest.raises(ValueError, match="backbone.safetensors"):
        backbones.load(path)
