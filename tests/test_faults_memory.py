"""Faults of a memory's files: what is damaged, what is left of it, and disks that fill up."""

import errno
import os

import pytest
import torch

from replay import FrameReplay, PrioritizedReplay, RowReplay, mapping, segments
from tests.test_replay import MEMORIES, Game, Record, equal, make, play


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


class Replayed:
    """A game that happens again."""

    def __init__(self, history):
        self.step = iter(history).__next__


def saved_in_parts(name, folder, parts=(12, 5, 6), worlds=2):
    """A memory of capacity for 20 steps, saved after each part, and the names of its files, oldest first."""
    kept, game = make(name, 20 * worlds, worlds, 4, seed=3), Game(worlds, 4)
    for steps in parts:
        play(kept, game, steps)
        state = kept.save(folder)
    return kept, game, state, sorted(state["files"])


@pytest.mark.parametrize("name", MEMORIES)
def test_without_a_damaged_file_what_is_newer_is_left_exactly(name, tmp_path):
    _, game, state, files = saved_in_parts(name, tmp_path)
    flip(tmp_path / files[0])
    other = make(name, 40, 2, 4, seed=3)
    with pytest.raises(ValueError, match=files[0]):
        other.load(tmp_path, state)
    assert other.loss(state, {files[0]}) == "the oldest 18 of the memory's 40 transitions"  # rows 3 to 11
    other.load(tmp_path, state, {files[0]})
    other.record = Record
    for _ in range(40):  # until the ring is full again and past that, each draw is what was added
        batch = other.sample(400)
        assert equal(batch, Record(*(value[batch.action] for value in game.everything())))
        first = max(12, len(game.history) - 20)
        assert int(batch.action.min()) // 2 >= first
        if name == "rows":
            assert set(batch.action.tolist()) == set(range(first * 2, len(game.history) * 2))
            assert len(other) == (len(game.history) - first) * 2
        play(other, game, 1)
    assert len(other) >= 0.8 * 40  # of frames, short episodes hold a little less


def test_a_file_of_which_only_frames_are_left_costs_a_few_transitions(tmp_path):
    _, game, state, files = saved_in_parts("frames", tmp_path, (12, 20))
    assert len(files) == 2, "the first file's rows are overwritten, and frames of its are in the stacks that follow"
    other = make("frames", 40, 2, 4, seed=3)
    assert other.loss(state, {files[0]}) == "a few of the oldest of the memory's 40 transitions"
    other.load(tmp_path, state, {files[0]})
    other.record = Record
    batch = other.sample(400)
    assert equal(batch, Record(*(value[batch.action] for value in game.everything())))
    assert 24 < int(batch.action.min()) <= 24 + 2 * 4


@pytest.mark.parametrize("name", MEMORIES)
def test_what_is_left_is_saved_and_restored(name, tmp_path):
    _, game, state, files = saved_in_parts(name, tmp_path)
    flip(tmp_path / files[1])  # the oldest goes as well: what is left follows one another
    left = make(name, 40, 2, 4, seed=3)
    left.load(tmp_path, state, {files[1]})
    again = left.save(tmp_path)
    assert set(again["files"]) == {files[2]}
    other = make(name, 40, 2, 4, seed=9)
    other.load(tmp_path, again)
    left.record = other.record = Record
    assert len(left) == len(other)
    assert equal(left.sample(50), other.sample(50))
    play(left, game, 3)
    play(other, Replayed(game.history[-3:]), 3)
    assert equal(left.sample(50, 3), other.sample(50, 3))


@pytest.mark.parametrize("name", MEMORIES)
def test_nothing_left_is_refused(name, tmp_path):
    _, _, state, files = saved_in_parts(name, tmp_path)
    with pytest.raises(ValueError, match="nothing of the memory is left"):
        make(name, 40, 2, 4).load(tmp_path, state, {files[2]})


@pytest.mark.parametrize("name", MEMORIES)
def test_steps_in_a_row_are_counted_from_what_is_left(name, tmp_path):
    _, _, state, files = saved_in_parts(name, tmp_path, (12, 5, 5))
    other = make(name, 40, 2, 4)
    other.load(tmp_path, state, {files[1]})
    with pytest.raises(ValueError, match="6 steps in a row after only [1-5] of each world"):
        other.sample(4, 6)


@pytest.mark.parametrize("what", ["memory", "priorities"])
@pytest.mark.parametrize("kind", [RowReplay, FrameReplay])
def test_prioritized_draws_only_what_is_left(kind, what, tmp_path):
    def prioritized():
        return PrioritizedReplay(kind(40, 2, **({"stack": 4} if kind is FrameReplay else {})))

    whole, game = prioritized(), Game(2, 4)
    for steps in (12, 8):
        play(whole, game, steps)
        drawn = whole.sample(8)
        whole.update(drawn.index, torch.rand(8))
        state = whole.save(tmp_path)
    lost = (
        {min(name for name in state["files"] if name.startswith(what))} if what == "memory" else {state["priorities"]}
    )
    other = prioritized()
    other.load(tmp_path, state, lost)
    other.memory.record = Record
    first = 24 if what == "memory" else 0
    for _ in range(30):
        drawn = other.sample(200)
        assert int(drawn.record.action.min()) >= first and bool(torch.isfinite(drawn.weight).all())
        assert torch.equal(drawn.record.action, drawn.index)
        other.update(drawn.index, torch.rand(200))
        play(other, game, 1)
        first = max(first, (len(game.history) - 20) * 2)
    assert ("priorities" in other.loss(state, lost)) == (what == "priorities")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["reward", "hidden"])
@pytest.mark.parametrize("name", MEMORIES)
def test_no_number_is_not_saved(name, field, value, tmp_path):
    kept, game = make(name, 40, 2, 4), Game(2, 4)
    play(kept, game, 5)
    state = kept.save(tmp_path)
    record = game.step()
    getattr(record, field).view(-1)[0] = value
    kept.add(record)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=f"{field} in the memory is NaN or infinite"):
        kept.save(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    make(name, 40, 2, 4).load(tmp_path, state)


def test_a_block_that_grows_beyond_its_place_is_refused(tmp_path):
    """A small file that unpacks to gigabytes: no more is unpacked than the place holds."""
    ring = torch.zeros(4, 2)
    segment = segments.write(tmp_path, 1, 4, {"a": torch.zeros(4_000, 2)}, {"a": (0, 4)})
    segments.read(tmp_path / segment.name, {"a": ring})
    large = segments.write(tmp_path, 2, 4, {"a": torch.zeros(4, 20_000)}, {"a": (0, 4)})
    with pytest.raises(ValueError, match="does not hold the 32 bytes"):
        segments.read(tmp_path / large.name, {"a": ring})


def test_a_link_in_the_place_of_a_new_file_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(segments.secrets, "token_hex", lambda _: "0")
    (tmp_path / ".memory-000001-4.0.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        segments.write(tmp_path, 1, 4, {"a": torch.zeros(4)}, {"a": (0, 4)})
    assert victim.read_text() == "precious"


# On the disk.


def test_a_mapped_memory_takes_its_room_at_once_and_leaves_nothing(tmp_path):
    kept = RowReplay(1_000, 2, path=tmp_path)
    before = os.statvfs(tmp_path)
    kept.add(Game(2, 4, size=(64, 64)).step())
    if hasattr(os, "posix_fallocate"):
        after = os.statvfs(tmp_path)
        assert (before.f_bfree - after.f_bfree) * before.f_frsize > 0.5 * kept.nbytes
    assert kept.nbytes > 10 << 20 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("supported", [True, False])
def test_a_full_disk_is_reported_in_a_sentence(supported, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC if supported else errno.EOPNOTSUPP, "No space left on device")

    monkeypatch.setattr(mapping.os, "posix_fallocate", full, raising=False)
    kept, game = RowReplay(40, 2, path=tmp_path), Game(2, 4)
    if supported:
        with pytest.raises(MemoryError, match="40 transitions cannot be kept on the disk of .*No space.*--capacity"):
            play(kept, game, 1)
    else:  # a file system that takes no room in advance: it is written out
        play(kept, game, 30)
        assert len(kept) == 40
