"""One contract for every memory: what was added comes back, exactly; and what it costs."""

from typing import NamedTuple

import pytest
import scipy.stats
import torch
from torch import Tensor

from replay import MEMORIES, FrameReplay, Memory, PrioritizedReplay, RowReplay
from tests.devices import DEVICES


class Record(NamedTuple):
    observation: Tensor  # (N, k * c, H, W) uint8
    action: Tensor  # (N,) int64, here each transition's own number
    reward: Tensor  # (N,) float32
    discount: Tensor  # (N,) float32
    next_observation: Tensor  # (N, k * c, H, W) uint8
    last: Tensor  # (N,) bool
    hidden: Tensor  # (N, 3) float16: memories keep any other field, too


class Game:
    """N worlds of random pictures that end, are cut off and lose lives at random; knows all that happened.

    length: mean steps an episode. starts: how a first stack looks, one of "padded" with blank frames, "full",
    "blank", "sparse" (any of its frames may be blank), or "any" of these. lives: whether episodes may go on.
    """

    def __init__(
        self,
        worlds: int,
        stack: int,
        channels: int = 1,
        size=(3, 5),
        length=6.0,
        starts="any",
        lives=True,
        seed=0,
    ) -> None:
        self.worlds, self.stack, self.channels, self.size = worlds, stack, channels, size
        self.length, self.starts, self.lives = length, starts, lives
        self.random = torch.Generator().manual_seed(seed)
        self.present = torch.stack([self.start() for _ in range(worlds)])
        self.history: list[Record] = []

    def chance(self, probability: float) -> bool:
        return torch.rand((), generator=self.random).item() < probability

    def frame(self) -> Tensor:
        return torch.randint(256, (self.channels, *self.size), generator=self.random, dtype=torch.uint8)

    def start(self) -> Tensor:
        frames = [self.frame() for _ in range(self.stack)]
        starts = self.starts
        if starts == "any":
            starts = ["padded", "full", "blank", "sparse"][torch.randint(4, (), generator=self.random)]
        for index in range(self.stack):
            padding = starts == "padded" and index < self.stack - 1
            if padding or starts == "blank" or (starts == "sparse" and self.chance(0.5)):
                frames[index].zero_()
        return torch.cat(frames)

    def step(self) -> Record:
        frames = torch.stack([self.frame() if self.chance(0.9) else self.frame() * 0 for _ in range(self.worlds)])
        next_value = torch.cat([self.present[:, self.channels :], frames], 1)
        last = torch.rand(self.worlds, generator=self.random) < 1 / self.length
        ended = last & (torch.rand(self.worlds, generator=self.random) < 0.7)  # the others were cut off
        number = len(self.history) * self.worlds + torch.arange(self.worlds)
        reward = torch.randn(self.worlds, generator=self.random)
        hidden = torch.randn(self.worlds, 3, generator=self.random).half()
        record = Record(self.present, number, reward, 1 - ended.float(), next_value, last, hidden)
        self.history.append(record)
        self.present = next_value.clone()
        for world in last.nonzero().flatten().tolist():
            if not (self.lives and ended[world] and self.chance(0.5)):  # a lost life: the game goes on
                self.present[world] = self.start()
        return record

    def everything(self) -> Record:
        """All that happened, (steps * N, ...), so that the transition of action a stands in row a."""
        return Record(*(torch.cat(column) for column in zip(*self.history, strict=True)))


def make(name: str, capacity: int, worlds: int, stack: int, **options) -> Memory:
    sizes = {"stack": stack} if name == "frames" else {}
    return MEMORIES[name](capacity, worlds, **sizes, **options)


def play(memory: Memory, game: Game, steps: int) -> None:
    for _ in range(steps):
        memory.add(Record(*(value.to(memory.device) for value in game.step())))


def equal(a: NamedTuple, b: NamedTuple) -> bool:
    return a._fields == b._fields and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def alive(memory: Memory, game: Game) -> set[int]:
    """What should be stored, found in plain Python: a model of the rings that never forgets."""
    alive = set()
    steps, worlds = len(game.history), game.worlds
    for world in range(worlds):
        stored = list(range(max(steps - memory.rows, 0), steps))
        if isinstance(memory, FrameReplay):
            written, oldest, before = 0, [], None
            for record in game.history:
                frames = record.observation[world].unflatten(0, (memory.stack, -1))
                if before is None or not (record.observation[world] == before).all():
                    blanks = 0
                    while blanks < memory.stack and not frames[blanks].any():
                        blanks += 1
                    begun = written  # where this chain's first frame lies
                    written += memory.stack - blanks
                written += 1
                oldest.append(max(begun, written - memory.stack - 1))
                before = record.next_observation[world]
            stored = [step for step in stored if oldest[step] >= written - memory.slots]
        alive.update(step * worlds + world for step in stored)
    return alive


def check(memory: Memory, game: Game) -> None:
    expected = alive(memory, game)
    assert len(memory) == len(expected)
    batch = memory.sample(20 * len(expected))
    assert type(batch) is Record
    assert all(value.device.type == memory.device.type for value in batch)
    batch = Record(*(value.cpu() for value in batch))
    assert set(batch.action.tolist()) == expected
    assert equal(batch, Record(*(value[batch.action] for value in game.everything())))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("starts", ["padded", "full", "any"])
@pytest.mark.parametrize(("worlds", "stack", "channels"), [(1, 4, 1), (3, 4, 1), (2, 2, 3), (5, 1, 1), (2, 1, 3)])
@pytest.mark.parametrize("name", MEMORIES)
def test_what_was_added_comes_back(name, worlds, stack, channels, starts, device):
    for length in (1.5, 6, 40):
        memory = make(name, 20 * worlds + worlds // 2, worlds, stack, device=device)
        game = Game(worlds, stack, channels, length=length, starts=starts, seed=int(length))
        for steps in (1, 4, 14, 3, 30, 41):  # not full, just full, around the rings several times
            play(memory, game, steps)
            check(memory, game)


def test_frames_without_ever_waiting_for_the_device():
    memory, game = FrameReplay(45, 3, stack=4), Game(3, 4)
    memory._prompt = False  # as on cuda: every step asks all worlds whether a chain begins
    for _ in range(8):
        play(memory, game, 13)
        check(memory, game)
        check_steps(memory, game, 3)


# Several steps at once.


def starts(memory: Memory, game: Game, steps: int) -> set[int]:
    """The transitions that have steps - 1 successors in the memory."""
    return {number for number in alive(memory, game) if number // game.worlds + steps <= len(game.history)}


def followed(game: Game, number: int, steps: int) -> Record:
    """The n-step transition of a start, found in plain Python."""
    row, world = divmod(number, game.worlds)
    first = Record(*(value[world] for value in game.history[row]))
    reward, discount, last = [], [], []
    for record in game.history[row : row + steps]:
        over = any(last)
        reward.append(0.0 if over else record.reward[world].item())
        discount.append(1.0 if over else record.discount[world].item())
        last.append(over or record.last[world].item())
        if not over:
            led = record.next_observation[world]
    return first._replace(
        reward=torch.tensor(reward), discount=torch.tensor(discount), last=torch.tensor(last), next_observation=led
    )


def sequence(game: Game, number: int, length: int) -> Record:
    row, world = divmod(number, game.worlds)
    columns = zip(*game.history[row : row + length], strict=True)
    all_steps = Record(*(torch.stack([value[world] for value in column]) for column in columns))
    return all_steps._replace(next_observation=all_steps.next_observation[-1])


def check_several(batch: Record, expected: set[int], numbers: Tensor, model) -> None:
    """Every transition of `expected` was drawn, and each is what the model says of its number."""
    batch = Record(*(value.cpu() for value in batch))
    assert set(numbers.tolist()) == expected
    order = {number: i for i, number in enumerate(sorted(expected))}
    truth = Record(*map(torch.stack, zip(*map(model, order), strict=True)))
    which = torch.tensor([order[number] for number in numbers.tolist()])
    assert equal(batch, Record(*(value[which] for value in truth)))


def check_steps(memory: Memory, game: Game, steps: int) -> None:
    expected = starts(memory, game, steps)
    batch = memory.sample(20 * len(expected), steps)
    check_several(batch, expected, batch.action.cpu(), lambda number: followed(game, number, steps))


def check_sequences(memory: Memory, game: Game, length: int) -> None:
    expected = starts(memory, game, length)
    batch = memory.sequences(20 * len(expected), length)
    check_several(batch, expected, batch.action[:, 0].cpu(), lambda number: sequence(game, number, length))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("worlds", "stack", "channels"), [(1, 4, 1), (3, 4, 1), (2, 2, 3), (2, 1, 1)])
@pytest.mark.parametrize("name", MEMORIES)
def test_several_steps_come_back_as_they_followed(name, worlds, stack, channels, device):
    for length in (1.5, 6, 40):
        memory = make(name, 20 * worlds, worlds, stack, device=device)
        game = Game(worlds, stack, channels, length=length, seed=int(length))
        for steps in (4, 15, 1, 1, 30):  # not full, just full, around the rings
            play(memory, game, steps)
            for several in (2, 3, 4):
                check_steps(memory, game, several)
                check_sequences(memory, game, several)
        check(memory, game)


def test_n_steps_by_hand():
    """One world of pictures 1, 2, 3 ...: a life is lost by step 2, step 4 is cut off, the game goes on from 0."""
    for name in MEMORIES:
        memory = make(name, 10, 1, 1)
        pictures = [[1, 2], [2, 3], [3, 4], [4, 5], [9, 10], [10, 11]]  # observation, next_observation
        for number, (before, after) in enumerate(pictures, 1):
            memory.add(
                Record(
                    torch.full((1, 1, 1, 1), before, dtype=torch.uint8),
                    torch.tensor([number]),
                    torch.tensor([10.0**number]),
                    torch.tensor([0.0 if number == 2 else 1.0]),
                    torch.full((1, 1, 1, 1), after, dtype=torch.uint8),
                    torch.tensor([number in (2, 4)]),
                    torch.zeros(1, 3, dtype=torch.float16),
                )
            )
        batch = memory.gather(torch.arange(4), steps=3)
        assert batch.action.tolist() == [1, 2, 3, 4]
        assert batch.observation.flatten().tolist() == [1, 2, 3, 4]
        assert batch.reward.tolist() == [[1e1, 1e2, 0], [1e2, 0, 0], [1e3, 1e4, 0], [1e4, 0, 0]]
        assert batch.discount.tolist() == [[1, 0, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]]
        assert batch.last.tolist() == [[False, True, True], [True] * 3, [False, True, True], [True] * 3]
        assert batch.next_observation.flatten().tolist() == [3, 3, 5, 5]
        assert memory.gather(torch.tensor([4]), steps=2).next_observation.item() == 11


@pytest.mark.parametrize("name", MEMORIES)
def test_several_steps_are_drawn_uniformly(name):
    memory, game = make(name, 60, 3, 4), Game(3, 4, length=1.2, starts="full")
    play(memory, game, 50)
    expected = sorted(starts(memory, game, 4))
    counts = torch.bincount(memory.sample(20_000, 4).action, minlength=expected[-1] + 1)[expected]
    assert counts.sum() == 20_000
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", MEMORIES)
def test_several_steps_that_cannot_be_drawn_are_refused(name):
    memory, game = make(name, 40, 2, 4), Game(2, 4)
    play(memory, game, 3)
    for draw in (memory.sample, memory.sequences):
        draw(4, 3)
        with pytest.raises(ValueError, match="4 steps in a row after only 3"):
            draw(4, 4)
        with pytest.raises(ValueError, match="0 steps"):
            draw(4, 0)
        with pytest.raises(ValueError, match="21 steps .* certain to hold only .*--capacity"):
            draw(4, 21)


def test_records_without_a_reward_are_sampled_in_sequences_only():
    class Few(NamedTuple):
        observation: Tensor

    memory = RowReplay(40, 2)
    memory.add(Few(torch.zeros(2, 4)))
    memory.add(Few(torch.ones(2, 4)))
    assert memory.sequences(8, 2).observation[:, :, 0].tolist() == [[0, 1]] * 8
    with pytest.raises(ValueError, match="steps=2 needs next_observation"):
        memory.sample(8, 2)


def test_frames_hold_for_certain_what_they_say():
    memory = FrameReplay(80, 2, stack=4)
    game = Game(2, 4, length=1.0, starts="full", lives=False)  # every step a chain of its own
    play(memory, game, 100)
    assert len(memory) >= 2 * memory.least
    check_steps(memory, game, memory.least)


def test_wide_frames_are_exact_too():
    memory = FrameReplay(30, 2, stack=4)  # 8 x 8: a frame fills whole words, and is moved as such
    game = Game(2, 4, size=(8, 8))
    play(memory, game, 70)
    check(memory, game)


def test_rows_of_vectors():
    memory, rows = RowReplay(6, 2), []
    for step in range(5):
        rows.append(Record(*[torch.full((2, 4), float(step)), torch.arange(2) + 2 * step, *[torch.zeros(2)] * 5]))
        memory.add(rows[-1])
    batch = memory.sample(200)
    assert set(batch.action.tolist()) == set(range(4, 10))
    assert torch.equal(batch.observation[:, 0], (batch.action // 2).float())


@pytest.mark.parametrize("length", [float("inf"), 300])
def test_long_episodes_fill_the_whole_capacity(length):
    memory = FrameReplay(2000, 4, stack=4)
    play(memory, Game(4, 4, length=length, starts="padded", size=(2, 2)), 700)
    assert len(memory) == 2000


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MEMORIES)
def test_sampling_is_uniform_over_everything(name, device):
    memory, game = make(name, 60, 3, 4, device=device), Game(3, 4, length=1.2, starts="full")
    play(memory, game, 50)  # episodes so short that the worlds of frames hold unequally many
    expected = sorted(alive(memory, game))
    counts = torch.bincount(memory.sample(20_000).action.cpu(), minlength=expected[-1] + 1)[expected]
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert name == "rows" or len(set(memory._tail.tolist())) > 1


@pytest.mark.parametrize("name", MEMORIES)
def test_same_seed_same_samples(name):
    def draw(seed: int) -> Record:
        memory = make(name, 40, 2, 4, seed=seed)
        play(memory, Game(2, 4), 30)
        torch.manual_seed(seed + 7)  # the global generator has no say
        return memory.sample(16)

    assert equal(draw(3), draw(3))
    assert not equal(draw(3), draw(4))


def test_the_newest_record_may_be_overwritten_by_the_world():
    memory, game = FrameReplay(20, 2, stack=4), Game(2, 4)
    buffers = Record(*(torch.empty_like(value) for value in game.step()))
    game.history.clear()
    game.present = torch.stack([game.start() for _ in range(2)])
    for _ in range(30):
        for buffer, value in zip(buffers, game.step(), strict=True):
            buffer.copy_(value)
        memory.add(buffers)
    check(memory, game)


# Saving.


def restored(memory: Memory, folder, state: dict, name: str, stack: int, tmp_path, **options) -> Memory:
    torch.save(state, tmp_path / "state.pt")  # as a checkpoint would
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = make(name, memory.capacity, memory.worlds, stack, seed=99, **options)
    other.load(folder, state)
    return other


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("worlds", [1, 3])
@pytest.mark.parametrize("name", MEMORIES)
def test_a_restored_memory_goes_on_as_if_nothing_had_happened(name, worlds, device, tmp_path):
    memory, game = make(name, 20 * worlds, worlds, 4, seed=5, device=device), Game(worlds, 4)
    folder, listed = tmp_path / "memory", set()
    empty = restored(memory, folder, memory.save(folder), name, 4, tmp_path, device=device)
    assert len(empty) == 0
    for steps in (3, 9, 0, 5, 30, 8, 8, 70):
        play(memory, game, steps)
        memory.sample(7)
        state = memory.save(folder)
        assert listed.isdisjoint(set(state["files"]) - {file.name for file in folder.iterdir()})
        listed |= set(state["files"])
        other = restored(memory, folder, state, name, 4, tmp_path, device=device)
        assert len(other) == len(memory)
        for _ in range(3):
            mine, copy = memory.sample(50), other.sample(50)
            assert copy._fields == Record._fields
            assert all(torch.equal(a, b) for a, b in zip(mine, copy, strict=True))
            play(memory, game, 1)
            other.add(Record(*(value.to(device) for value in game.history[-1])))
        check(other, game)
        memory = other  # and its next save must be complete as well


@pytest.mark.parametrize("name", MEMORIES)
def test_a_save_costs_what_is_new(name, tmp_path):
    memory, game = make(name, 2000, 2, 4), Game(2, 4, size=(8, 8))
    play(memory, game, 400)
    first = memory.save(tmp_path)["files"]
    play(memory, game, 20)
    second = memory.save(tmp_path)["files"]
    assert memory.save(tmp_path)["files"] == second  # nothing new, nothing written
    (old,) = first
    (new,) = set(second) - set(first)
    assert (tmp_path / new).stat().st_size < 0.1 * (tmp_path / old).stat().st_size
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", MEMORIES)
def test_segments_are_named_as_long_as_they_hold_anything_and_never_deleted(name, tmp_path):
    memory, game = make(name, 40, 2, 4), Game(2, 4, length=50)
    states = []
    for _ in range(12):
        play(memory, game, 7)
        states.append(memory.save(tmp_path)["files"])
    assert max(map(len, states)) <= 5  # 20 rows a world are in at most 4 or 5 segments of 7
    assert len(list(tmp_path.iterdir())) == 12
    check(memory, game)


@pytest.mark.parametrize("name", MEMORIES)
def test_going_back_to_an_older_checkpoint_leaves_the_newer_one_whole(name, tmp_path):
    memory, game = make(name, 40, 2, 4), Game(2, 4)
    play(memory, game, 10)
    old = memory.save(tmp_path)
    play(memory, game, 10)
    new = memory.save(tmp_path)
    other = make(name, 40, 2, 4)
    other.load(tmp_path, old)
    elsewhere = Game(2, 4)
    play(make(name, 40, 2, 4), elsewhere, 10)  # the same beginning,
    elsewhere.random.manual_seed(8)
    play(other, elsewhere, 10)  # and another end, of as many steps
    other.save(tmp_path)
    again = make(name, 40, 2, 4)
    again.load(tmp_path, new)
    again.record = Record
    check(again, game)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_save_to_another_folder_is_complete(name, tmp_path):
    memory, game = make(name, 40, 2, 4), Game(2, 4)
    play(memory, game, 10)
    memory.save(tmp_path / "one")
    play(memory, game, 3)
    state = memory.save(tmp_path / "two")
    other = restored(memory, tmp_path / "two", state, name, 4, tmp_path)
    other.record = Record
    check(other, game)


@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
@pytest.mark.parametrize("name", MEMORIES)
def test_a_damaged_file_is_named_and_the_memory_stays_as_it_was(name, harm, tmp_path):
    memory, game = make(name, 40, 2, 4), Game(2, 4)
    play(memory, game, 10)
    memory.save(tmp_path)
    play(memory, game, 10)
    state = memory.save(tmp_path)
    file = tmp_path / max(state["files"])
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if harm == "cut" else content)
    with pytest.raises(ValueError, match=file.name):
        memory.load(tmp_path, state)
    check(memory, game)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_save_that_fails_leaves_nothing_behind(name, tmp_path, monkeypatch):
    memory, game = make(name, 40, 2, 4), Game(2, 4)
    play(memory, game, 10)
    memory.save(tmp_path)
    play(memory, game, 10)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("os.fsync", full)
        memory.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    other = restored(memory, tmp_path, memory.save(tmp_path), name, 4, tmp_path / "..")
    other.record = Record
    check(other, game)


@pytest.mark.parametrize("name", MEMORIES)
def test_loading_into_other_sizes_is_refused(name, tmp_path):
    memory = make(name, 40, 2, 4)
    play(memory, Game(2, 4), 10)
    state = memory.save(tmp_path)
    for wrong, named in [
        (make(name, 42, 2, 4), "capacity"),
        (make(name, 40, 4, 4), "worlds"),
        (make("rows" if name == "frames" else "frames", 40, 2, 4), "kind"),
    ]:
        with pytest.raises(ValueError, match=named):
            wrong.load(tmp_path, state)
    if name == "frames":
        with pytest.raises(ValueError, match="stack"):
            make(name, 40, 2, 2).load(tmp_path, state)
    color = make(name, 40, 2, 4)
    play(color, Game(2, 4, channels=3), 2)
    with pytest.raises(ValueError, match="observation"):
        color.load(tmp_path, state)


# Room.


@pytest.mark.parametrize("name", MEMORIES)
def test_a_memory_mapped_to_files_is_the_same(name, tmp_path):
    mapped = make(name, 40, 2, 4, seed=1, path=tmp_path / "map")
    memory = make(name, 40, 2, 4, seed=1)
    game, same = Game(2, 4), Game(2, 4)
    play(mapped, game, 60)
    play(memory, same, 60)
    assert equal(mapped.sample(100), memory.sample(100))
    assert not list((tmp_path / "map").iterdir())  # a file without a name is gone with its process, killed or not
    state = mapped.save(tmp_path / "saved")
    other = restored(mapped, tmp_path / "saved", state, name, 4, tmp_path, path=tmp_path / "map")
    other.record = Record
    check(other, game)
    check(mapped, game)  # though the other one took over its folder


@pytest.mark.parametrize("worlds", [1, 8, 16])
def test_a_million_atari_transitions_take_seven_point_two_gigabytes(worlds):
    memory = FrameReplay(1_000_000, worlds, stack=4)  # no page is touched
    blank = torch.zeros(worlds, 4, 84, 84, dtype=torch.uint8)
    number, zeros = torch.zeros(worlds, dtype=torch.int64), torch.zeros(worlds)
    memory.add(Record(blank, number, zeros, zeros, blank, zeros.bool(), torch.zeros(worlds, 0)))
    assert 7056 * 1_000_000 < memory.nbytes <= 7200 * 1_000_000


# Errors: each names the thing, the value and the way out.


@pytest.mark.parametrize("name", MEMORIES)
def test_wrong_sizes_are_refused(name, tmp_path):
    for capacity, worlds, said in [(3, 4, "capacity 3 .* 4 worlds.*--capacity"), (10, 0, "0 worlds")]:
        with pytest.raises(ValueError, match=said):
            make(name, capacity, worlds, 1)
    with pytest.raises(ValueError, match="path=.*device='cuda'"):
        make(name, 40, 2, 4, device="cuda", path=tmp_path)


def test_a_capacity_below_the_stack_is_refused():
    with pytest.raises(ValueError, match="capacity 15 .* stack of 4: raise --capacity to 16"):
        FrameReplay(15, 4, stack=4)
    with pytest.raises(ValueError, match="stack of 0"):
        FrameReplay(15, 4, stack=0)


@pytest.mark.parametrize("name", MEMORIES)
def test_wrong_rows_are_refused_and_nothing_is_written(name):
    memory, game = make(name, 40, 3, 4), Game(3, 4)
    with pytest.raises(ValueError, match="'observation' has shape .2, 4, 3, 5.* 3 worlds"):
        memory.add(Game(2, 4).step())
    with pytest.raises(ValueError, match="NamedTuple"):
        memory.add(tuple(Game(3, 4).step()))
    play(memory, game, 5)
    good = Game(3, 4).step()
    for wrong, said in [
        (Game(2, 4).step(), "observation"),
        (Game(3, 4, size=(4, 5)).step(), r"\(3, 4, 4, 5\)"),
        (good._replace(reward=good.reward.double()), "'reward' is torch.float64"),
        (good._replace(last=good.last[:, None]), "'last'"),
    ]:
        with pytest.raises(ValueError, match=said):
            memory.add(wrong)
    play(memory, game, 5)
    check(memory, game)


def test_other_records_are_refused():
    class Short(NamedTuple):
        observation: Tensor
        action: Tensor

    record = Game(2, 4).step()
    with pytest.raises(ValueError, match="'next_observation'.*RowReplay"):
        FrameReplay(40, 2, stack=4).add(Short(record.observation, record.action))
    with pytest.raises(ValueError, match="stack of 3"):
        FrameReplay(40, 2, stack=3).add(record)
    floats = record._replace(observation=record.observation / 255, next_observation=record.next_observation / 255)
    with pytest.raises(ValueError, match="float32.*RowReplay"):
        FrameReplay(40, 2, stack=4).add(floats)
    with pytest.raises(ValueError, match="last"):
        FrameReplay(40, 2, stack=4).add(record._replace(last=record.reward))
    memory = RowReplay(40, 2)
    memory.add(record)
    with pytest.raises(ValueError, match="fields"):
        memory.add(Short(record.observation, record.action))


def test_broken_chains_are_named():
    memory, game = FrameReplay(40, 3, stack=4), Game(3, 4, length=float("inf"))
    play(memory, game, 3)
    game.present[1] = game.start()
    with pytest.raises(ValueError, match=r"observation is not the last step's .* \[1\]"):
        memory.add(game.step())
    game.history.pop()
    game.present = game.history[-1].next_observation.clone()
    record = game.step()
    record.next_observation[2] = game.start()
    with pytest.raises(ValueError, match=r"moved on by one frame in worlds \[2\]"):
        memory.add(record)


@pytest.mark.parametrize("name", MEMORIES)
def test_empty_memories_and_batches(name):
    memory = make(name, 40, 2, 4)
    assert len(memory) == 0 and memory.nbytes == 0
    with pytest.raises(ValueError, match="empty"):
        memory.sample(4)
    play(memory, Game(2, 4), 1)
    with pytest.raises(ValueError, match="batch of 0"):
        memory.sample(0)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("name", MEMORIES)
def test_a_memory_that_can_never_fit_says_so(name, on_disk, tmp_path):
    memory = make(name, 10**15, 2, 4, path=tmp_path if on_disk else None)
    with pytest.raises(MemoryError, match="1,000,000,000,000,000 transitions needs .* bytes.*--capacity"):
        memory.add(Game(2, 4).step())


# Games that did not go on where they were.


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("name", MEMORIES)
def test_games_that_do_not_go_on_are_cut_short_and_not_over(name, prompt, tmp_path):
    """After a resume into other games: bootstrapping from where the step led, no chain and no n-step draw across."""
    memory, game = make(name, 60, 3, 2), Game(3, 2, lives=False, length=1e9)
    play(memory, game, 7)
    state = memory.save(tmp_path)

    again, cut = make(name, 60, 3, 2), torch.tensor([True, False, True])
    again._prompt = prompt  # False: as on cuda, where no check would say that a chain is broken
    again.load(tmp_path, state)
    again.truncate_episodes(cut)
    game.history[-1] = game.history[-1]._replace(last=cut)
    game.present[cut] = torch.stack([game.start() for _ in range(3)])[cut]
    play(again, game, 6)
    check(again, game)
    check_steps(again, game, 3)
    newest = again.gather(torch.arange(18, 21))
    assert newest.last.tolist() == cut.tolist() and newest.discount.tolist() == [1, 1, 1]

    third = make(name, 60, 3, 2)  # what was saved before the mark is in a file of its own
    third.load(tmp_path, again.save(tmp_path))
    third.record = Record  # which the first add would bring
    check(third, game)
    check_steps(third, game, 3)


@pytest.mark.parametrize("name", MEMORIES)
def test_priorities_and_sequences_know_games_that_were_cut_short(name):
    memory = PrioritizedReplay(make(name, 60, 2, 1), 0.6)
    game = Game(2, 1, lives=False, length=1e9)
    for _ in range(4):
        memory.add(game.step())
    memory.truncate_episodes(torch.tensor([False, True]))
    game.present[1] = game.start()
    for _ in range(4):
        memory.add(game.step())
    drawn = memory.sequences(200, 6)
    for last, index in zip(drawn.record.last, drawn.index, strict=True):
        row, world = divmod(index.item(), 2)
        assert last.tolist() == [world == 1 and row + step == 3 for step in range(6)]


class Pair(NamedTuple):
    observation: Tensor
    action: Tensor


def test_a_memory_without_ends_has_nothing_to_cut_short():
    memory = RowReplay(10, 2)
    memory.truncate_episodes(torch.ones(2, dtype=torch.bool))  # nothing was added yet
    memory.add(Pair(torch.zeros(2), torch.zeros(2)))
    memory.truncate_episodes(torch.ones(2, dtype=torch.bool))
