"""Sum trees and prioritized memories: exact sums, the right frequencies, and the memories' own contract."""

import math
from functools import partial

import pytest
import scipy.stats
import torch
from test_replay import (
    Game,
    alive,
    check,
    check_several,
    check_steps,
    equal,
    followed,
    make,
    play,
    sequence,
    starts,
)

from replay import MEMORIES, PrioritizedReplay, SumTree, prioritized, sum_tree
from tests.devices import DEVICES


@pytest.fixture(params=["wide", "deep"])
def shape(request, monkeypatch):
    if request.param == "deep":
        monkeypatch.setattr(sum_tree, "FAN", 3)
        monkeypatch.setattr(sum_tree, "TOP", 4)


def random_priorities(count: int, generator: torch.Generator, device="cpu") -> torch.Tensor:
    """Over ten orders of magnitude, a third of them 0."""
    value = 10 ** (10 * torch.rand(count, generator=generator, dtype=torch.float64) - 7)
    return (value * (torch.rand(count, generator=generator) > 1 / 3)).to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1, 2, 64, 65, 1000, 5000])
def test_draws_are_in_proportion(shape, size, device):
    random = torch.Generator().manual_seed(size)
    tree = SumTree(size, device)
    value = torch.rand(size, generator=random) * (torch.arange(size) % 3 < 2) + (torch.arange(size) == 0)
    tree.set(torch.arange(size, device=device), value.to(device))
    drawn = torch.cat([tree.draw(50, torch.Generator(device).manual_seed(i)) for i in range(400)]).cpu()
    share = value.double() / value.double().sum()
    assert not share[drawn].eq(0).any()
    some = torch.arange(size) % 10  # enough in each for a test
    expected = torch.zeros(10, dtype=torch.float64).index_add_(0, some, share)
    counts = torch.bincount(some[drawn], minlength=10)
    used = expected > 0
    # Stratified draws vary less than independent ones: the statistic is small, and never large.
    assert scipy.stats.chisquare(counts[used], (expected * len(drawn))[used]).pvalue > 1e-3 or used.sum() == 1
    assert (torch.bincount(drawn, minlength=size) - len(drawn) * share).abs().max() < 6 * math.sqrt(400) + 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_leaf_of_zero_is_never_drawn(shape, device):
    random = torch.Generator().manual_seed(0)
    for size in (5, 70, 3000):
        tree = SumTree(size, device)
        for _ in range(30):
            index = torch.randint(size, (size,), generator=random).to(device)
            tree.set(index, random_priorities(size, random, device))
            if tree.total > 0:
                assert (tree.get(tree.draw(5000)) > 0).all()
    # At the very ends: the first and the last leaf are 0, and draws touch both borders.
    tree.set(torch.arange(size, device=device), torch.zeros(size, device=device))
    tree.set(torch.tensor([7, 9], device=device), torch.tensor([1e-9, 1e9], device=device))
    assert set(tree.draw(100).tolist()) <= {7, 9}
    tree.set(torch.tensor([9], device=device), torch.tensor([0.0], device=device))
    assert tree.draw(100).tolist() == [7] * 100


@pytest.mark.parametrize("chance", [0, 1, 2**30, 2**31 - 1])
def test_draws_at_the_very_borders_of_leaves(shape, chance, monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda end, size, **options: torch.full(size, chance))
    for size in (20, 2000):
        tree = SumTree(size)
        used = torch.arange(3, size, 4)  # of every four only the last
        tree.set(used, torch.ones(len(used)))
        assert torch.equal(tree.draw(len(used)), used)


def test_a_share_of_whole_units_is_exact():
    """floor(width * u / 2^62) against Python's integers, up to the largest that there are."""
    random = torch.Generator().manual_seed(0)
    chance = torch.randint(1 << 31, (2, 500), generator=random)
    chance[:, :2] = torch.tensor([[0, 2**31 - 1], [0, 2**31 - 1]])
    for bits in (1, 5, 30, 31, 32, 47, 61, 62):
        width = torch.randint(1 << bits, (500,), generator=random) if bits < 62 else torch.full((500,), 2**62 - 1)
        found = sum_tree.scaled(chance, width).tolist()
        numbers = [(high << 31) + low for high, low in chance.T.tolist()]
        assert found == [w * u >> 62 for w, u in zip(width.tolist(), numbers, strict=True)]


def test_a_million_leaves_are_drawn_as_float64_would():
    """Each draw lies in its own share of the total, within a unit of where float64's sums put it, and the totals of
    many draws over a thousand stretches of leaves are those of the priorities."""
    size, batch = 1_000_000, 512
    random = torch.Generator().manual_seed(2)
    tree, value = SumTree(size), random_priorities(size, torch.Generator().manual_seed(1)).clamp(max=1e3)
    tree.set(torch.arange(size), value)
    ends = (tree.leaves.double() / 2**24).cumsum(0)
    total, stretch = ends[-1], size // 1_000
    counts = torch.zeros(1_000)
    for _ in range(200):
        drawn = tree.draw(batch, random)
        assert tree.leaves[drawn].all()
        share = torch.arange(batch, dtype=torch.float64) * total / batch
        before = ends[drawn] - tree.leaves[drawn].double() / 2**24
        assert (ends[drawn] > share - 1e-3).all() and (before < share + total / batch + 1e-3).all()
        counts += torch.bincount(drawn // stretch, minlength=1_000)
    expected = torch.diff(ends[stretch - 1 :: stretch], prepend=torch.zeros(1)) / total * counts.sum()
    # Stratified: a stretch is hit by whole shares, and by chance only at its two borders.
    assert (counts - expected).abs().max() < 6 * math.sqrt(200 * 0.5)


@pytest.mark.parametrize("device", DEVICES)
def test_sums_do_not_drift(shape, device):
    size, random = 700, torch.Generator().manual_seed(1)
    tree, model = SumTree(size, device), torch.zeros(size, dtype=torch.int64)
    for _ in range(1000):
        index = torch.randint(size, (8,), generator=random)
        value = random_priorities(8, random)
        tree.set(index.to(device), value.to(device))
        units = (value * 2**24).ceil().long()
        for leaf in set(index.tolist()):
            model[leaf] = units[index == leaf].max()  # of twins the highest counts
    assert torch.equal(tree.leaves.cpu(), model)
    assert tree.total.item() == model.sum().item() / 2**24
    levels = [level.clone() for level in tree._levels]
    tree.recount()
    assert all(torch.equal(a, b) for a, b in zip(levels, tree._levels, strict=True))


def test_priorities_out_of_range():
    tree = SumTree(100)
    tree.set(
        torch.arange(6), torch.tensor([float("nan"), float("inf"), -1.0, 1e300, 1e-300, 0.5], dtype=torch.float64)
    )
    assert tree.get(torch.arange(6)).tolist() == [0, tree.highest, 0, tree.highest, 2**-24, 0.5]
    tree.set(torch.arange(100), torch.full((100,), float("inf")))
    assert tree.total == 100 * tree.highest >= 100 * 2**37 / 100
    assert set(tree.draw(5000).tolist()) == set(range(100))
    with pytest.raises(ValueError, match="100 priorities are 0"):
        SumTree(100).draw(1)
    with pytest.raises(ValueError, match="0 priorities"):
        SumTree(0)


def test_a_million_leaves_are_two_levels():
    tree = SumTree(1_000_000)
    assert len(tree._levels) == 2 and tree.nbytes < 8.3e6
    tree.set(torch.tensor([0, 999_999]), torch.tensor([1.0, 3.0]))
    assert tree.draw(4).tolist() == [0, 999_999, 999_999, 999_999]


# The memory around it.


def number_of(drawn) -> torch.Tensor:
    action = drawn.record.action
    return action if action.ndim == 1 else action[:, 0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("worlds", "stack"), [(1, 4), (3, 2)])
@pytest.mark.parametrize("name", MEMORIES)
def test_what_was_added_comes_back_by_priority(name, worlds, stack, device):
    for length in (1.5, 6, 40):
        memory = PrioritizedReplay(make(name, 20 * worlds, worlds, stack, device=device), exponent=0.5)
        game = Game(worlds, stack, length=length, seed=int(length))
        for steps in (4, 15, 1, 30, 1, 2, 70):
            play(memory, game, steps)
            assert len(memory) == len(alive(memory.memory, game))
            for several in (1, 3, 2):
                expected = starts(memory.memory, game, several)
                drawn = memory.sample(60 * len(expected), several)
                assert torch.equal(drawn.index, drawn.record.action)
                assert drawn.weight.max() == 1 and drawn.weight.dtype == torch.float32
                if several > 1:
                    check_several(drawn.record, expected, drawn.index.cpu(), partial(followed, game, steps=several))
                else:
                    everything, index = game.everything(), drawn.index.cpu()
                    assert set(index.tolist()) == expected
                    assert equal(
                        type(drawn.record)(*(value.cpu() for value in drawn.record)),
                        type(drawn.record)(*(value[index] for value in everything)),
                    )
                memory.update(drawn.index, 0.5 + torch.rand(len(drawn.index), device=device))
                assert memory.priorities.get(torch.tensor([20 * worlds], device=device)) == 0
            drawn = memory.sequences(60 * len(expected), 2)
            check_several(drawn.record, expected, number_of(drawn).cpu(), partial(sequence, game, length=2))
        check(memory.memory, game)  # uniform draws still are
        check_steps(memory.memory, game, 3)


@pytest.mark.parametrize("name", MEMORIES)
def test_frequencies_and_weights(name):
    memory, game = PrioritizedReplay(make(name, 60, 3, 4), exponent=0.7, smallest=0.01), Game(3, 4, length=1.5)
    play(memory, game, 45)
    memory.sample(1)
    expected = sorted(starts(memory.memory, game, 1))
    error = torch.randn(expected[-1] + 1, dtype=torch.float64)
    memory.update(torch.tensor(expected), error[expected])
    share = ((error.abs() + 0.01) ** 0.7)[expected]
    share /= share.sum()
    counts = torch.zeros(len(error))
    for _ in range(200):
        drawn = memory.sample(100, importance_exponent=0.4)
        counts += torch.bincount(drawn.index, minlength=len(error))
        priority = (error[drawn.index].abs() + 0.01) ** 0.7
        chance = priority / ((error[expected].abs() + 0.01) ** 0.7).sum()
        weight = (len(expected) * chance) ** -0.4
        assert torch.allclose(drawn.weight.double(), weight / weight.max(), rtol=1e-5)
    counts = counts[expected]
    assert counts.sum() == 20_000
    assert scipy.stats.chisquare(counts, share * 20_000).pvalue > 1e-3
    assert scipy.stats.chisquare(counts, torch.full((len(expected),), 20_000 / len(expected))).pvalue < 1e-9


def test_weights_by_hand():
    memory, game = PrioritizedReplay(make("rows", 2, 1, 1), exponent=1.0, smallest=1e-9), Game(1, 1)
    play(memory, game, 2)
    memory.sample(1)
    memory.update(torch.tensor([0, 1]), torch.tensor([-1.0, 3.0]))
    drawn = memory.sample(4, importance_exponent=0.5)  # P = 1/4, 3/4: N P = 1/2, 3/2, and (N P)^-1/2 = 1.414, 0.816
    assert drawn.index.tolist() == [0, 1, 1, 1]
    assert drawn.weight.tolist() == pytest.approx([1, 3**-0.5, 3**-0.5, 3**-0.5], rel=1e-6)


@pytest.mark.parametrize("name", MEMORIES)
def test_what_is_new_has_the_largest_priority(name):
    memory, game = PrioritizedReplay(make(name, 40, 2, 2), exponent=0.5), Game(2, 2)
    play(memory, game, 5)
    drawn = memory.sample(64)
    assert (memory.priorities.get(drawn.index) == 1).all()  # of the first ones
    memory.update(drawn.index, torch.full((64,), 0.25))
    play(memory, game, 1)
    memory.sample(1)
    assert (memory.priorities.get(torch.tensor([10, 11])) == 1).all()  # 1 still is the largest seen
    memory.update(torch.tensor([3]), torch.tensor([16.0]))
    play(memory, game, 1)
    memory.sample(1)
    assert memory.priorities.get(torch.tensor([12, 13])).tolist() == pytest.approx([4, 4])
    assert memory.priorities.get(torch.tensor([10, 3])).tolist() == pytest.approx([1, 4])


@pytest.mark.parametrize("name", MEMORIES)
@pytest.mark.parametrize("wild", [1e12, float("inf"), -1e12])
def test_one_wild_error_does_not_give_all_draws_to_what_is_new(name, wild):
    """With a maximum over all errors ever met, the newest two of 1,000 transitions got every draw, for ever."""
    memory, game = PrioritizedReplay(make(name, 1_000, 2, 2), exponent=0.6), Game(2, 2, length=1_000, lives=False)
    play(memory, game, 400)
    memory.update(memory.sample(64).index[:1], torch.tensor([wild]))
    for _ in range(2 * prioritized.RECENT):
        play(memory, game, 1)
        drawn = memory.sample(64)
        memory.update(drawn.index, torch.ones(64))
    newest = 0
    for _ in range(50):
        play(memory, game, 1)
        drawn = memory.sample(64)
        newest += (drawn.index >= memory.memory.adds * 2 - 2).sum().item()
        memory.update(drawn.index, torch.ones(64))
    assert memory._largest <= 100.01 and newest < 50 * 64 / 4


def test_the_largest_priority_stays_as_in_the_paper_where_nothing_is_wild():
    memory, game = PrioritizedReplay(make("rows", 40, 1, 1), exponent=1.0), Game(1, 1)
    play(memory, game, 20)
    memory.update(memory.sample(1).index, torch.tensor([50.0]))
    for _ in range(3 * prioritized.RECENT):
        memory.update(memory.sample(4).index, torch.ones(4))
    assert memory._largest == pytest.approx(50)


@pytest.mark.parametrize("name", MEMORIES)
def test_an_error_of_nan_changes_no_priority(name):
    """It would be 0 and never drawn again."""
    memory, game = PrioritizedReplay(make(name, 40, 2, 2), exponent=1.0), Game(2, 2, length=100)
    play(memory, game, 10)
    memory.sample(1)
    nan = float("nan")
    memory.update(torch.arange(8), torch.tensor([1, 2, 3, 4, 5, 6, 7, 8.0]))
    before = memory.priorities.leaves.clone()
    memory.update(torch.arange(8), torch.full((8,), nan))
    assert torch.equal(memory.priorities.leaves, before) and memory._largest == pytest.approx(8)
    memory.update(torch.tensor([0, 0, 1, 1]), torch.tensor([9.0, nan, nan, 0.5]))  # of twins the number counts
    assert memory.priorities.get(torch.tensor([0, 1])).tolist() == pytest.approx([9, 0.5], rel=1e-5)
    assert memory._largest == pytest.approx(9)
    for _ in range(prioritized.RECENT):
        memory.update(torch.arange(8), torch.full((8,), nan))
    play(memory, game, 1)
    assert memory._largest == pytest.approx(9) and {20, 21} <= set(memory.sample(200).index.tolist())


@pytest.mark.parametrize("name", MEMORIES)
def test_an_update_that_comes_too_late_is_passed_over(name):
    memory, game = PrioritizedReplay(make(name, 20, 1, 2), exponent=1.0), Game(1, 2, length=100)
    play(memory, game, 20)
    late = memory.sample(200).index
    play(memory, game, 12)
    memory.sample(1)
    before = memory.priorities.leaves.clone()
    memory.update(late, torch.full((200,), 9.0))  # 0 to 11 are gone, and 12 to 19 still there
    after = memory.priorities.leaves
    assert torch.equal(after[:12], before[:12]) and after[20] == 0
    assert (memory.priorities.get(torch.arange(12, 20)) > 8.9).all()
    play(memory, game, 3)
    memory.update(torch.tensor([32, 33, 34]), torch.ones(3))  # not drawn yet: nor known
    assert torch.equal(memory.priorities.leaves, after)


def test_evicted_rows_never_come_back():
    memory = PrioritizedReplay(make("frames", 40, 2, 4), exponent=1.0)
    game = Game(2, 4, length=1.2, starts="full")
    for _ in range(60):
        play(memory, game, int(1 + game.chance(0.5)))
        expected = alive(memory.memory, game)
        for _ in range(2):
            index = memory.sample(100).index
            assert set(index.tolist()) <= expected
            memory.update(torch.randint(len(game.history) * 2, (50,)), torch.rand(50) * 10)  # of evicted ones, too
    assert len(expected) < 30


@pytest.mark.parametrize("name", MEMORIES)
def test_periods(name):
    memory, game = PrioritizedReplay(make(name, 80, 2, 2), period=5), Game(2, 2, length=30)
    for steps in (4, 3, 20, 40):
        play(memory, game, steps)
        drawn = memory.sequences(300, 4)
        expected = {number for number in starts(memory.memory, game, 4) if number // 2 % 5 == 0}
        check_several(drawn.record, expected, drawn.index, partial(sequence, game, length=4))
        memory.update(drawn.index, torch.rand(300) + 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MEMORIES)
def test_a_restored_one_goes_on_as_if_nothing_had_happened(name, device, tmp_path):
    memory, game = PrioritizedReplay(make(name, 60, 3, 4, device=device)), Game(3, 4)
    folder = tmp_path / "memory"
    for steps in (0, 2, 3, 9, 0, 5, 30, 8):
        play(memory, game, steps)
        if memory.memory.adds:
            drawn = memory.sample(30, 2)
            memory.update(drawn.index, torch.rand(30, device=device) * 3)
            play(memory, game, 1)  # which the priorities do not know of yet
        state = memory.save(folder)
        for file in folder.iterdir():  # as a run does
            if file.name not in state["files"]:
                file.unlink()
        assert set(state["files"]) == {file.name for file in folder.iterdir()}
        torch.save(state, tmp_path / "state.pt")
        other = PrioritizedReplay(make(name, 60, 3, 4, seed=99, device=device))
        other.load(folder, torch.load(tmp_path / "state.pt", weights_only=True))
        for several in (2, 2, 1) if memory.memory.adds else ():
            mine, copy = memory.sample(50, several, 0.4), other.sample(50, several, 0.4)
            assert all(torch.equal(a, b) for a, b in zip(mine.record, copy.record, strict=True))
            assert torch.equal(mine.index, copy.index) and torch.equal(mine.weight, copy.weight)
            error = torch.randn(50, device=device)
            memory.update(mine.index, error)
            other.update(copy.index, error)
            play(memory, game, 1)
            other.add(type(game.history[-1])(*(value.to(device) for value in game.history[-1])))
        memory = other


def test_what_cannot_be_restored_is_named(tmp_path):
    memory, game = PrioritizedReplay(make("rows", 40, 2, 4)), Game(2, 4)
    play(memory, game, 10)
    memory.sample(4)
    state = memory.save(tmp_path)
    before = memory.priorities.leaves.clone()
    with pytest.raises(ValueError, match="exponent"):
        PrioritizedReplay(make("rows", 40, 2, 4), exponent=0.1).load(tmp_path, state)
    with pytest.raises(ValueError, match="not prioritized"):
        memory.load(tmp_path, memory.memory.save(tmp_path))
    file = tmp_path / state["priorities"]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=file.name):
        memory.load(tmp_path, state)
    assert torch.equal(memory.priorities.leaves, before)


def test_wrong_numbers_are_refused():
    rows = make("rows", 40, 2, 4)
    for wrong, said in [
        (dict(exponent=1.5), "exponent 1.5"),
        (dict(smallest=0), "smallest 0"),
        (dict(period=0), "of 0"),
    ]:
        with pytest.raises(ValueError, match=said):
            PrioritizedReplay(rows, **wrong)
    memory, game = PrioritizedReplay(rows, period=15), Game(2, 4)
    with pytest.raises(ValueError, match="empty"):
        memory.sample(4)
    play(memory, game, 3)
    with pytest.raises(ValueError, match="4 steps in a row after only 3"):
        memory.sample(4, 4)
    with pytest.raises(ValueError, match="8 steps in a row every 15 .* only 20"):
        play(memory, game, 9)
        memory.sequences(4, 8)
    with pytest.raises(ValueError, match="must be .B,."):
        memory.update(torch.zeros(3, dtype=torch.int64), torch.zeros(3, 1))
    assert memory.device.type == "cpu" and memory.capacity == 40 and memory.nbytes > rows.nbytes
