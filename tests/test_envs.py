"""Worlds: one contract over many of them, numbers by hand, exact resume, and errors that name the way out."""

import io
import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envs
from envs.atari import ROMS
from envs.world import World

SAMPLES = {
    "Catch": ("Catch", {}),
    "Glimpse": ("Glimpse", {"task": "Cluttered"}),
    "CartPole": ("CartPole", {}),
    "CartPole-pixels": ("CartPole", {"pixels": True}),
    "Pendulum": ("Pendulum", {}),
    "MountainCar": ("MountainCar", {}),
    "FrozenLake": ("FrozenLake", {}),
    "LunarLander": ("LunarLander", {}),
    "Breakout": ("Breakout", {}),
    "Breakout-sticky": ("Breakout", {"protocol": "sticky", "power_cycle": 150}),
    "Catch-flicker": ("Catch", {"flicker": 0.5, "stack": 3}),
    "Breakout-flicker": ("Breakout", {"flicker": 0.5, "power_cycle": 60}),
    "Pong": ("Pong", {"max_frames": 120, "color": True, "stack": 2}),
}
NEEDS = {"CartPole-pixels": "pygame", "LunarLander": "Box2D"}


def make(sample: str, count: int = 2, seed: int = 1) -> World:
    if sample in NEEDS:
        pytest.importorskip(NEEDS[sample])
    name, options = SAMPLES[sample]
    return envs.make(name, count, seed, **options)


class Player:
    """Random actions, the same for the same seed."""

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world, self.random = world, torch.Generator().manual_seed(seed)

    def __call__(self) -> torch.Tensor:
        shape = (self.world.count, *self.world.action_shape)
        if self.world.actions is None:
            return torch.rand(shape, generator=self.random) * 2 - 1
        return torch.randint(self.world.actions, shape, generator=self.random)


def same(a: envs.Transition, b: envs.Transition) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# The record


@pytest.mark.parametrize("sample", SAMPLES)
def test_transition(sample):
    world = make(sample)
    play = Player(world)
    shape = (world.count, *world.observation_shape)
    pictures = len(world.observation_shape) == 3
    running = np.zeros(world.count)
    lengths = np.zeros(world.count, int)
    for _ in range(30 if sample == "CartPole-pixels" else 100):
        before, copy = world.observation, world.observation.clone()
        action = play()
        t = world.step(action)
        assert t.observation is before
        assert torch.equal(before, copy), "an emitted observation was written to"
        assert t.action is action
        for observation in (t.observation, t.next_observation, world.observation):
            assert observation.shape == shape
            assert observation.dtype == (torch.uint8 if pictures else torch.float32)
            assert observation.is_contiguous()
        assert t.reward.shape == t.discount.shape == t.last.shape == (world.count,)
        assert (t.reward.dtype, t.discount.dtype, t.last.dtype) == (torch.float32, torch.float32, torch.bool)
        assert ((t.discount == 0) | (t.discount == 1)).all()
        assert t.last[t.discount == 0].all(), "an end that is not the last step"
        on = ~t.last
        assert torch.equal(t.next_observation[on], world.observation[on])
        running += t.reward.double().numpy()
        lengths += 1
        returns, steps = [], []
        for n in range(world.count):  # a whole game ended if the world says so; its score is the sum we kept
            if world._length[n] == 0:
                assert t.last[n]
                returns.append(running[n])
                steps.append(int(lengths[n]))
                running[n], lengths[n] = 0, 0
        assert world.finished == {"episode/return": returns, "episode/length": steps}
    assert world.render().shape[::3] == (world.count, 3)
    assert world.render().dtype == np.uint8
    world.close()


@pytest.mark.parametrize("sample", ["Catch", "CartPole", "Breakout", "Pong"])
def test_next_observation_is_never_the_next_episodes_first(sample):
    world = make(sample)
    play = Player(world)
    restarts = 0
    for _ in range(250):
        t = world.step(play())
        for n in range(world.count):
            if world._length[n] == 0:
                restarts += 1
                assert not torch.equal(t.next_observation[n], world.observation[n])
                if world.stack > 1:
                    older = world.observation_shape[0] * (world.stack - 1) // world.stack
                    assert world.observation[n, :older].max() == 0 < t.next_observation[n, :older].max()
    assert restarts


# Ends, limits and lives


def test_catch_by_hand():
    world = envs.make("Catch", 5, seed=3)
    first = world.observation
    assert (first == 128).sum() == 5 * 16  # one paddle each, 4 x 4 pixels
    column = (first[:, 0, 0] == 255).int().argmax(dim=1) // 4
    for t in range(9):  # the paddle starts in column 5: walk to the ball, but in world 0 away from it
        place = (world.observation[:, 0, -1] == 128).int().argmax(dim=1) // 4 if t else torch.full((5,), 5)
        action = 1 + (column - place).sign()
        action[0] = 0 if column[0] >= 5 else 2
        step = world.step(action)
        assert step.last.all() == (t == 8)
    assert step.reward.tolist() == [-1, 1, 1, 1, 1]
    assert (step.discount == 0).all()
    assert world.finished == {"episode/return": [-1, 1, 1, 1, 1], "episode/length": [9] * 5}


def test_cartpole_time_limit_is_not_an_end():
    world = envs.make("CartPole", 2)
    for _ in range(500):
        x, v, angle, spin = world.observation.T
        step = world.step((angle + 0.3 * spin + 0.02 * x + 0.08 * v > 0).long())
        if world.finished["episode/length"]:
            break
    assert world.finished == {"episode/return": [500.0, 500.0], "episode/length": [500, 500]}
    assert step.last.all() and (step.discount == 1).all()


def test_cartpole_fall_is_an_end():
    world = envs.make("CartPole", 1)
    while not world.finished["episode/length"]:
        step = world.step(torch.ones(1, dtype=torch.int64))
    assert step.last.all() and step.discount.item() == 0
    assert step.next_observation[0, 2].abs() > 0.2 > world.observation[0, 2].abs()


def test_mountaincar_time_limit():
    world = envs.make("MountainCar", 2)
    for t in range(1, 201):
        step = world.step(torch.ones(2, dtype=torch.int64))
        assert step.last.all() == (t == 200) and (step.discount == 1).all()
    assert world.finished == {"episode/return": [-200.0] * 2, "episode/length": [200] * 2}


def test_atari_frame_limit():
    world = envs.make("Pong", 2, max_frames=120)
    for t in range(1, 31):
        step = world.step(torch.zeros(2, dtype=torch.int64))
        assert step.last.all() == (t == 30) and (step.discount == 1).all()
    assert world.finished["episode/length"] == [30, 30]


def test_lives_end_episodes_but_not_games():
    """The same games, with and without the signal: five lives are five episodes and one score."""
    training, evaluation = envs.make("Breakout", 2), envs.make("Breakout", 2, evaluation=True)
    play = Player(training)
    lasts, ends, games = 0, 0, []
    while len(games) < 2:
        action = play()
        a, b = training.step(action), evaluation.step(action)
        assert torch.equal(a.next_observation, b.next_observation) and torch.equal(a.reward, b.reward)
        assert training.finished == evaluation.finished
        assert torch.equal(a.last, a.discount == 0) and torch.equal(b.last, b.discount == 0)
        if a.last.any() and not b.last.any():  # a life: the game goes on, and its frames too
            assert torch.equal(a.next_observation, training.observation)
        lasts += int(a.last.sum())
        ends += int(b.last.sum())
        games += training.finished["episode/length"]
    assert ends == len(games)
    assert 4 * len(games) <= lasts - ends <= 4 * (len(games) + 2)  # games under way have lost some, too


# Seeds and resume


@pytest.mark.parametrize("sample", ["Catch", "CartPole", "Pendulum", "Breakout-sticky"])
def test_seeds(sample):
    a, b, other = make(sample, seed=1), make(sample, seed=1), make(sample, seed=2)
    differs = not torch.equal(a.observation, other.observation)
    play = Player(a)
    for _ in range(60):
        action = play()
        assert same(a.step(action), b.step(action))
        other.step(action)
        differs |= not torch.equal(a.observation, other.observation)
    assert differs
    assert not torch.equal(a.observation[0], a.observation[1])
    assert torch.equal(other.reset(1), b.reset(1))


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s != "CartPole-pixels"])
def test_resume_is_exact(sample):
    world, again = make(sample, seed=1), make(sample, seed=9)
    play = Player(world)
    for _ in range(130):
        world.step(play())
    file = io.BytesIO()
    torch.save(world.state_dict(), file)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(world.observation, again.observation)
    for _ in range(100):
        action = play()
        assert same(world.step(action), again.step(action))
        assert torch.equal(world.observation, again.observation)
        assert world.finished == again.finished
    assert np.array_equal(world.render(), again.render())


def test_resume_of_pixels_of_a_control_task():
    pytest.importorskip("pygame")
    world, again = envs.make("CartPole", 2, pixels=True), envs.make("CartPole", 2, 9, pixels=True)
    play = Player(world)
    for _ in range(25):
        world.step(play())
    again.load_state_dict(world.state_dict())
    for _ in range(10):
        action = play()
        assert same(world.step(action), again.step(action))


def test_state_of_another_world_is_refused():
    state = envs.make("CartPole", 2).state_dict()
    with pytest.raises(ValueError, match="its count is 2, here 3"):
        envs.make("CartPole", 3).load_state_dict(state)
    with pytest.raises(ValueError, match="its world is 'CartPole-v1', here 'Catch'"):
        envs.make("Catch", 2).load_state_dict(state)


def test_state_is_small():
    world = envs.make("Breakout", 2)
    for _ in range(100):
        world.step(torch.zeros(2, dtype=torch.int64))
    file = io.BytesIO()
    torch.save(world.state_dict(), file)
    assert file.tell() < 10_000


class Drifting(gymnasium.Env):
    """Not a function of its seed."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3, start=-1)
    clock = 0

    def reset(self, *, seed=None, options=None):
        Drifting.clock += 1
        return np.full(2, Drifting.clock, np.float32), {}

    def step(self, action):
        assert action in (-1, 0, 1)
        return np.full(2, Drifting.clock, np.float32), 0.0, False, False, {}


def test_a_world_that_cannot_resume_says_so():
    gymnasium.register("Drifting-v3", entry_point=Drifting)
    world = envs.make("Drifting-v3", 2)
    for action in ([0, 1], [1, 2]):  # 0..2 here, -1..1 there
        world.step(torch.tensor(action))
    with pytest.raises(ValueError, match="Drifting-v3 cannot be rendered"):
        envs.make("Drifting-v3", 1, pixels=True)
    assert "no seed determines Drifting-v3" in world.caveat
    with pytest.warns(RuntimeWarning, match="not exactly where it stopped"):
        world.load_state_dict(world.state_dict())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("sample", ["Catch", "Pendulum", "Breakout"])
def test_on_a_gpu_it_is_the_same_world(sample):
    name, options = SAMPLES[sample]
    here, there = envs.make(name, 2, **options), envs.make(name, 2, device="cuda", **options)
    play = Player(here)
    for _ in range(60):
        action = play()
        t = there.step(action.cuda())
        assert all(x.is_cuda for x in t)
        assert same(here.step(action), envs.Transition(*(x.cpu() for x in t)))
    with pytest.raises(ValueError, match="got one on cpu"):
        there.step(action)
    here.load_state_dict(there.state_dict())
    assert torch.equal(here.observation, there.observation.cpu())


# Pictures


@pytest.mark.parametrize("sample", ["Breakout", "Breakout-flicker", "Catch-flicker", "Pong", "CartPole-pixels"])
def test_stacks_put_together_on_a_device_are_the_same(sample):
    """As it is on a GPU, to which only the newest frame is sent."""
    here, there = make(sample), make(sample)
    there._newest_only = True
    play, sizes, send = Player(here), [], there._tensor
    there._tensor = lambda array: sizes.append(array.size) or send(array)
    frame, ends = here.observation[:, : here.observation.shape[1] // here.stack].numel(), 0
    for _ in range(400):
        action = play()
        ends += len(here.finished_worlds)
        assert same(here.step(action), there.step(action))
        assert torch.equal(here.observation, there.observation)
    assert ends and max(sizes) == frame


def test_stack_begins_black_and_shifts():
    world = envs.make("Breakout", 2)
    assert world.observation[:, :3].max() == 0 < world.observation[:, 3].max()
    step = world.step(torch.ones(2, dtype=torch.int64))
    assert torch.equal(step.next_observation[:, 2], step.observation[:, 3])


def test_flicker_blackens_frames_and_nothing_else():
    plain, dim = (envs.make("Breakout", 3, seed=2, flicker=p, stack=2) for p in (0.0, 0.4))
    play, black = Player(plain), []
    for _ in range(200):
        action = play()
        clear, seen = plain.step(action), dim.step(action)
        for n in range(3):
            for k in range(2):
                was_black = not seen.next_observation[n, k].any()
                assert was_black or torch.equal(seen.next_observation[n, k], clear.next_observation[n, k])
            black.append(not seen.next_observation[n, 1].any())
            assert seen.last[n] or torch.equal(dim.observation[n], seen.next_observation[n])
        assert torch.equal(seen.reward, clear.reward) and torch.equal(seen.last, clear.last)
        assert torch.equal(seen.next_observation[:, 0], seen.observation[:, 1])  # black frames stay black
    assert abs(np.mean(black) - 0.4) < 3 * (0.4 * 0.6 / len(black)) ** 0.5


def test_flicker_needs_images():
    with pytest.raises(ValueError, match="CartPole-v1 gives vectors"):
        envs.make("CartPole", flicker=0.5)
    with pytest.raises(ValueError, match="probability"):
        envs.make("Catch", flicker=1.0)


def test_render_is_the_same_game_in_color():
    world = envs.make("Breakout", 2, stack=1, protocol="sticky")
    play = Player(world)
    for _ in range(30):
        world.step(play())
    for _ in range(3):  # the first call opens the color twin, the next ones follow it
        gray = world.render().astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        small = torch.nn.functional.interpolate(torch.from_numpy(gray)[:, None], (84, 84), mode="area")
        assert (small - world.observation).abs().mean() < 3  # the two resize a little differently
        for _ in range(5):
            world.step(play())
    assert world.render().shape == (2, 210, 160, 3)


def test_own_images():
    pytest.importorskip("Box2D")
    world = envs.make("CarRacing", 1, continuous=False)
    assert world.observation_shape == (3, 96, 96) and world.actions == 5
    world = envs.make("CarRacing", 1, stack=4, size=84, gray=True)
    assert world.observation_shape == (4, 84, 84) and world.stack == 4 and world.actions is None
    assert world.action_low.tolist() == [-1, 0, 0]


# Names and errors


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("ms_pacman", "MsPacman"), ("qbertNoFrameskip-v4", "Qbert"), ("ALE/Breakout-v5", "Breakout"),
        ("catch", "Catch"), ("cartpole", "CartPole-v1"), ("CartPole-v0", "CartPole-v0"),
        ("gymnasium:CartPole-v1", "CartPole-v1"), ("saccade/Catch-v0", "Catch"),
    ],
)  # fmt: skip
def test_names(name, canonical):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert envs.make(name, 1).name == canonical


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Brakeout", {}, "unknown world 'Brakeout': did you mean 'Breakout'?"),
        ("Cartpool", {}, "unknown world 'Cartpool': did you mean 'CartPole'?"),
        ("CartPole-v7", {}, "unknown world 'CartPole-v7': did you mean 'CartPole'?"),
        ("cach", {}, "unknown world 'cach': did you mean 'Catch'?"),
        ("Joust", {}, "unknown world 'Joust'"),
        ("Pong", {"protocol": "sticki"}, "unknown protocol 'sticki'"),
        ("Pong", {"protokol": "sticky"}, "Pong has no option 'protokol': did you mean 'protocol'?"),
        ("CartPole", {"protocol": "sticky"}, "CartPole-v1 does not take these options"),
        ("CartPole", {"stack": 4}, "add pixels=True"),
        ("Blackjack-v1", {}, "a world needs a vector or a picture"),
        ("blackjack-v1", {}, "a world needs a vector or a picture"),
        ("nopackage:Id-v0", {}, "nopackage"),
    ],
)
def test_bad_names_and_options(name, options, message):
    with pytest.raises(ValueError) as raised:
        envs.make(name, 1, **options)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "name, seen, joints", [("Hopper", 11, 3), ("HalfCheetah", 17, 6), ("Walker2d", 17, 6), ("Ant", 105, 8)]
)
def test_robots(name, seen, joints):
    pytest.importorskip("mujoco")
    world, twin = (envs.make(name, 2, seed=3) for _ in range(2))
    assert world.observation.shape == (2, seen) and world.action_shape == (joints,)
    assert not torch.equal(world.observation[0], world.observation[1])
    generator, ends = torch.Generator().manual_seed(1), 0
    for _ in range(60):
        action = torch.rand(2, joints, generator=generator) * 2 - 1
        transition = world.step(action)
        assert same(transition, twin.step(action)) and torch.isfinite(transition.next_observation).all()
        ends += int((transition.last & (transition.discount == 0)).sum())
    assert (ends > 0) == (name in ("Hopper", "Walker2d")), "hopper and walker fall, the others do not"


def test_missing_extra_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for module in [m for m in sys.modules if m.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match=r'Ant-v5 .*pip install -e "\.\[mujoco\]"'):
        envs.make("Ant", 1)


def test_bad_actions():
    world = envs.make("CartPole", 3)
    with pytest.raises(TypeError, match=r"torch.int64 tensor of shape \(3,\) on cpu, got list"):
        world.step([0, 0, 0])
    with pytest.raises(TypeError, match="got torch.float32"):
        world.step(torch.zeros(3))
    with pytest.raises(ValueError, match=r"got shape \(3, 1\)"):
        world.step(torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="got one on meta"):
        world.step(torch.zeros(3, dtype=torch.int64, device="meta"))
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match=r"in 0..1"):
            world.step(torch.full((3,), wrong))
    with pytest.raises(ValueError, match="finite"):
        envs.make("Pendulum", 1).step(torch.full((1, 1), torch.nan))
    world.step(torch.zeros(3, dtype=torch.int64))  # nothing was half done


def test_order_of_calls():
    world = envs.make("Catch", 1)
    with pytest.raises(RuntimeError, match="call send"):
        world.recv()
    world.send(torch.ones(1, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="call recv"):
        world.send(torch.ones(1, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="call recv"):
        world.state_dict()
    world.recv()


# Catch, as other libraries meet it


def test_catch_passes_gymnasiums_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make("saccade/Catch-v0", render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_catch_as_a_vector_environment(mode):
    games = gymnasium.make_vec("saccade/Catch-v0", 4, "vector_entry_point", autoreset_mode=mode)
    assert games.metadata["autoreset_mode"] == mode
    observation, _ = games.reset(seed=7)
    assert games.observation_space.contains(observation)
    again, _ = games.reset(seed=[7, 8, 9, 10])
    assert np.array_equal(observation, again)
    for _ in range(8):
        observation, reward, terminated, truncated, info = games.step(games.action_space.sample())
        assert not terminated.any() and not reward.any()
    observation, reward, terminated, truncated, info = games.step(np.ones(4, int))
    assert terminated.all() and not truncated.any() and set(reward) <= {-1.0, 1.0}
    if mode == AutoresetMode.SAME_STEP:
        assert (info["final_obs"][:, 0, 0] != 255).all() and (observation[:, 0, 0] == 255).any(axis=1).all()
    elif mode == AutoresetMode.NEXT_STEP:
        observation, reward, terminated, *_ = games.step(np.ones(4, int))
        assert not terminated.any() and not reward.any() and (observation[:, 0, 0] == 255).any(axis=1).all()
    else:
        with pytest.raises(RuntimeError, match="reset it first"):
            games.step(np.ones(4, int))


# Slow


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads are bound on Linux")
def test_emulators_bound_to_cores_play_the_same_game():
    def cores():
        return {task: os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")}

    free, before = envs.make("Pong", 2, threads=2), cores()
    bound, after = envs.make("Pong", 2, threads=2, bind=True), cores()
    added = [on for task, on in after.items() if task not in before]
    assert [len(on) for on in added] == [1, 1] and (len(set.union(*added)) == 2 or os.cpu_count() == 1)
    player = Player(free)
    for _ in range(20):
        action = player()
        assert torch.equal(free.step(action).next_observation, bound.step(action).next_observation)


@pytest.mark.slow
def test_every_rom_opens():
    """In a process of their own: ALE ends the process when it does not like a ROM."""
    play = """
import envs, sys, torch
for game in envs.WORLDS["atari"]:
    print(game, flush=True)
    world = envs.make(game, 1)
    world.step(torch.zeros(1, dtype=torch.int64))
    world.close()
"""
    done = subprocess.run([sys.executable, "-c", play], capture_output=True, text=True)
    games = done.stdout.split()
    assert done.returncode == 0, f"{games[-1]}: {done.stderr}"
    assert games == list(ROMS) and len(games) > 100


def test_a_long_replay_says_so(monkeypatch, capsys):
    played = envs.make("Catch", 2, seed=1)
    for _ in range(3):
        played.step(torch.zeros(2, dtype=torch.int64))
    again = envs.make("Catch", 2, seed=1)
    again.load_state_dict(played.state_dict())
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("envs.world.LONG_REPLAY", 5)
    again.load_state_dict(played.state_dict())
    assert "playing 6 steps again" in capsys.readouterr().out
