"""ram=True: the frames are those without it, bit for bit, and the memory is that of the game that they show."""

import numpy as np
import pytest
import torch

import envs
from envs.atari_ram import VARIABLES, area_weights

LONG = [("Pong", "classic", 1_500), ("MsPacman", "classic", 1_500), ("Qbert", "sticky", 1_500)]
LONG += [
    ("Seaquest", "sticky", 1_500),
    ("Tetris", "classic", 800),
    ("Enduro", "sticky", 800),
    ("Pong", "sticky", 800),
]
GAMES = [("Breakout", "classic", 150)] + [pytest.param(*each, marks=pytest.mark.slow) for each in LONG]


def picture(world: envs.World) -> torch.Tensor:
    """The newest frames (N, 84, 84) of the consoles whose memory is read, from their screens as they are now."""
    screens = [console.getScreenGrayscale() for console in world._consoles._consoles]
    height, width = screens[0].shape
    down, across = area_weights(height, 84), area_weights(width, 84)
    return torch.stack([down @ torch.from_numpy(screen).float() @ across.T for screen in screens])


@pytest.mark.parametrize(("game", "protocol", "steps"), GAMES)
def test_frames_are_those_without(game, protocol, steps):
    """Over lost lives, ends, limits within a step and newly seeded consoles; a resumed world is the same."""
    options = dict(count=2, seed=3, protocol=protocol, max_frames=997, power_cycle=300)
    plain, world = envs.make(game, **options), envs.make(game, ram=True, **options)
    generator, ended = torch.Generator().manual_seed(1), 0
    for step in range(steps):
        before = world.ram
        action = torch.randint(plain.actions, (2,), generator=generator)
        one, other = plain.step(action), world.step(action)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert torch.equal(plain.observation, world.observation) and plain.finished == world.finished
        going = torch.ones(2, dtype=torch.bool)
        going[world.finished_worlds] = False
        assert torch.equal(world.ram[going], world.next_ram[going])
        ended += int((~going).sum())
        if step == 100:
            assert world.ram.shape == (2, 128) and world.ram.dtype == torch.uint8
            assert not torch.equal(before, world.ram)
        # A frame is the larger of two: where the last of them is brighter, it shows.
        assert (picture(world) <= world.observation[:, -1].float() + 1).all()
        for n in world.finished_worlds:  # the first of a game is one frame alone
            assert (picture(world)[n] - world.observation[n, -1].float()).abs().max() <= 1
    state = world.state_dict()
    again = envs.make(game, ram=True, **options)
    again.load_state_dict(state)
    assert torch.equal(again.observation, world.observation) and torch.equal(again.ram, world.ram)
    assert ended or steps < 260


def test_memory_counts_what_the_rewards_are():
    """Pong's scores are two of its bytes: their difference is the return, at every step, where ends come and go."""
    world = envs.make("Pong", 2, ram=True, max_frames=1_600)
    place = VARIABLES["Pong"]
    total, highest, generator = np.zeros(2), 0, torch.Generator().manual_seed(0)
    for _ in range(420):
        t = world.step(torch.randint(world.actions, (2,), generator=generator))
        total += t.reward.numpy()
        scores = world.next_ram[:, [place["player_score"], place["enemy_score"]]].int().numpy()
        assert (scores[:, 0] - scores[:, 1] == total).all()
        total[world.finished_worlds] = 0
        highest = max(highest, int(scores.max()))
    assert highest > 1


def test_without_it_the_world_says_how():
    with pytest.raises(ValueError, match="ram=True"):
        _ = envs.make("Pong").ram
    assert "ram" not in envs.make("Pong").state_dict()["options"]
