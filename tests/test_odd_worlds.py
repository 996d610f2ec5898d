"""Worlds as users bring them: taken, or refused with what helps; what they give is looked at."""

import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import FlattenObservation, TransformAction, TransformObservation, TransformReward

import envs
from envs import gymnasium_world, probe
from envs.world import WorldError
from runs import machine

ROOT = Path(__file__).resolve().parent.parent
ODD = "tests.odd_worlds:odd/"


@pytest.fixture(autouse=True)
def registered():
    importlib.import_module("tests.odd_worlds")


def act(world, choice=0):
    if world.actions is None:
        return torch.zeros(world.count, *world.action_shape)
    return torch.full((world.count,), choice)


# What they give


@pytest.mark.parametrize("field", ["reward", "observation", "reset"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, None, "text", [1.0, 2.0]])
def test_what_is_no_number_is_named_where_it_enters(field, value):
    begin = dict(count=3, field=field, value=value, rebuild=False)
    if field == "reset":
        with pytest.raises(WorldError, match="world 0, at a reset: .*observation"):
            envs.make(ODD + "Spoilt-v0", **begin)
        return
    world = envs.make(ODD + "Spoilt-v0", **begin)
    for _ in range(4):
        world.step(act(world))
    before, state = world.observation, world.state_dict()
    with pytest.raises(WorldError, match=f"odd/Spoilt-v0, world 0, at step 5 of its game: .*{field}"):
        world.step(act(world))
    with pytest.raises(RuntimeError, match="the last step of .* failed"):
        world.step(act(world))
    after = world.state_dict()  # as if the step had not been asked for: a run can be saved
    assert world.observation is before and after["present"] == state["present"]
    assert torch.equal(after["taped"], state["taped"])
    world.load_state_dict(after)
    assert torch.equal(world.observation, before) and not world.interrupted.any()


def test_the_game_and_the_place_are_named():
    space = Box(-np.inf, np.inf, (2, 3), np.float64)
    world = envs.make(ODD + "Plain-v0", 2, flatten=True)
    world._games.envs[1].unwrapped.show = lambda: np.array([0, 0, -np.inf])
    with pytest.raises(WorldError, match=r"world 1, at step 1 of its game: observation\[2\] is -inf"):
        world.step(act(world))
    with pytest.raises(WorldError, match=r"observation\[1\] is nan"):
        envs.make(ODD + "Spoilt-v0", value=np.nan, field="reset", space=Box(-9, 9, (4,)))
    with pytest.raises(ValueError, match="flatten=True"):
        envs.make(ODD + "Spoilt-v0", space=space)


def test_a_reset_that_fails_after_a_game_keeps_what_was_before():
    world = envs.make(ODD + "Plain-v0", 1)
    for _ in range(11):
        world.step(act(world))
    before, env = world.observation, world._games.envs[0].unwrapped
    show = env.show
    env.show = lambda: show() * (np.nan if env.time == 0 else 1)
    with pytest.raises(WorldError, match="at a reset"):
        world.step(act(world))
    assert world.observation is before and world.state_dict()["taped"].tolist() == [11]
    assert world._length.tolist() == [11] and world._seedings.tolist() == [0]


@pytest.mark.parametrize(
    "make",
    [float, int, bool, np.float32, np.float64, np.int64, np.bool_, lambda x: np.array([x]), np.array, torch.tensor],
)
def test_rewards_of_any_type_of_number(make):
    world = envs.make(ODD + "Rewards-v0", 2, make=make)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transition = world.step(act(world))
    assert transition.reward.dtype == torch.float32 and transition.reward.tolist() == [1, 1]


@pytest.mark.parametrize("make", [lambda x: 2**70, lambda x: -(2**100)])
def test_rewards_of_many_bits_are_numbers(make):
    world = envs.make(ODD + "Rewards-v0", 1, make=make)
    assert world.step(act(world)).reward.item() == pytest.approx(make(1))
    huge = envs.make(ODD + "Rewards-v0", 1, make=lambda x: 10**400)
    with pytest.raises(WorldError, match="the reward is inf"):
        huge.step(act(huge))


def test_irregular_info_is_nobodys_concern():
    world = envs.make(ODD + "Irregular-v0", 3)
    for _ in range(30):
        world.step(act(world))


def test_a_reset_of_old_gym_is_refused():
    with pytest.raises(WorldError, match="OldReset-v0, world 0, at a reset: .* observation and info"):
        envs.make(ODD + "OldReset-v0")


def test_an_error_of_the_world_names_its_game():
    world = envs.make(ODD + "Plain-v0", 3)
    world._games.envs[2].unwrapped.earn = lambda action: 1 / 0
    with pytest.raises(ZeroDivisionError) as raised:
        world.step(act(world, 1))
    assert "of game 2, of 3 side by side" in raised.value.__notes__[0]
    assert world.state_dict()["taped"].tolist() == [0, 0, 0]


# What they see and do


def test_channels_are_the_smaller_of_the_outer_axes():
    assert envs.make(ODD + "ChannelsLast-v0").observation_shape == (4, 84, 84)
    assert envs.make(ODD + "ChannelsFirst-v0").observation_shape == (4, 84, 84)
    assert envs.make(ODD + "ChannelsLast-v0", stack=2, size=42).observation_shape == (8, 42, 42)
    assert envs.make(ODD + "ChannelsLast-v0", channels_last=False).observation_shape == (84, 84, 4)
    assert envs.make(ODD + "Square-v0", channels_last=True).observation_shape == (40, 40, 40)
    for name in ("Square", "Wide"):
        with pytest.raises(ValueError, match="channels_last=True or False"):
            envs.make(f"{ODD}{name}-v0")
    with pytest.raises(ValueError, match="pictures of 4 channels: gray is made of 3 colors only"):
        envs.make(ODD + "ChannelsLast-v0", gray=True, size=84)


def test_a_picture_with_channels_last_is_the_same_picture():
    world = envs.make(ODD + "ChannelsLast-v0", 2)
    world._games.envs[1].unwrapped.show = lambda: shown
    shown = world._games.envs[1].observation_space.sample()
    transition = world.step(act(world))
    assert np.array_equal(transition.next_observation[1].permute(1, 2, 0), shown)


def test_small_integers_of_a_vector_enter_from_0_to_1():
    for name, low, range_ in (("Ram", 0, 255), ("Words", -1000, 4000), ("Bits", 0, 1)):
        world = envs.make(f"{ODD}{name}-v0", 2)
        shown = world._games.envs[0].observation_space.sample()
        world._games.envs[0].unwrapped.show = lambda shown=shown: shown
        seen = world.step(act(world)).next_observation[0]
        assert torch.allclose(seen, (torch.from_numpy(shown).float() - low) / range_)
        assert seen.dtype == torch.float32 and 0 <= seen.min() and seen.max() <= 1


def test_discrete_observations():
    world = envs.make(ODD + "States500-v0", 3)
    assert world.observation.shape == (3, 500) and (world.observation.sum(1) == 1).all()
    with pytest.raises(ValueError, match="80,000 bytes each.*TransformObservation"):
        envs.make(ODD + "States20000-v0")


@pytest.mark.parametrize(
    "name, hint",
    [
        ("Dict", "flatten=True"),
        ("Tuple", "flatten=True"),
        ("Several", "flatten=True"),
        ("FloatPicture", r"TransformObservation.*\(255 \* x\).*Box\(0, 255, \(84, 84, 3\)"),
        ("StackedColor", "stack=4"),
        ("ManyActions", r"TransformAction.*unravel_index\(a, \[3, 4\]\).*Discrete\(12\)"),
    ],
)
def test_other_spaces_are_refused_with_the_wrapper_that_helps(name, hint):
    with pytest.raises(ValueError, match=hint):
        envs.make(f"{ODD}{name}-v0")


def test_those_wrappers_help():
    for name, size in (("Dict", 5), ("Tuple", 6), ("Several", 7)):
        world = envs.make(f"{ODD}{name}-v0", 2, flatten=True)
        assert world.observation.shape == (2, size) and world.options["flatten"] is True
        assert envs.make(FlattenObservation(gymnasium.make(f"odd/{name}-v0")), 2).observation_shape == (size,)
    env = gymnasium.make("odd/FloatPicture-v0")
    picture = Box(0, 255, (84, 84, 3), "uint8")
    world = envs.make(TransformObservation(env, lambda x: (255 * x).astype("uint8"), picture), 2)
    assert world.observation_shape == (3, 84, 84)
    env = gymnasium.make("odd/ManyActions-v0")
    world = envs.make(lambda: TransformAction(env, lambda a: np.array(np.unravel_index(a, [3, 4])), Discrete(12)))
    assert world.actions == 12
    world.step(act(world, 11))


# What they are called


def test_an_environment_or_a_function_is_a_world():
    world = envs.make(gymnasium.make("CartPole-v1", max_episode_steps=7), 3)
    twin = envs.make("CartPole", 3)
    assert world.name == "CartPole-v1" and torch.equal(world.observation, twin.observation)
    for _ in range(7):
        world.step(act(world))
    assert world.finished["episode/length"] == [7, 7, 7]
    wrapped = envs.make(TransformReward(gymnasium.make("CartPole-v1"), lambda reward: 3 * reward), 2)
    assert wrapped.step(act(wrapped)).reward.tolist() == [3, 3]
    plain = importlib.import_module("tests.odd_worlds").Plain
    assert envs.make(plain, 2).name == "Plain"
    with pytest.raises(ValueError, match="Plain cannot be made again .*: hand in a function"):
        envs.make(plain(), 2)
    with pytest.raises(ValueError, match="a world is a name, .* got int"):
        envs.make(3)


def test_vector_environments_that_let_us_begin_their_games():
    world = envs.make(ODD + "Many-v0", 3)
    for _ in range(12):
        transition = world.step(act(world, 1))
    assert transition.last.all() and transition.reward.tolist() == [1, 1, 1] and (world.observation == 0).all()
    with pytest.raises(ValueError, match="ManyOnTheirOwn-v0 is registered as a vector environment only"):
        envs.make(ODD + "ManyOnTheirOwn-v0", 3)


@pytest.mark.parametrize(
    "name, protocol",
    [
        ("Pong", "classic"), ("pong", "classic"), ("ALE/Pong-v5", "sticky"), ("ale/pong-v5", "sticky"),
        ("PongNoFrameskip-v4", "classic"), ("Pong-v4", "classic"), ("Pong-v0", "sticky"),
        ("PongNoFrameskip-v0", "sticky"),
    ],
)  # fmt: skip
def test_an_atari_id_means_its_protocol(name, protocol):
    world = envs.make(name)
    assert world.protocol == protocol and ("protocol sticky" in (world.caveat or "")) == (protocol == "sticky")


# Whether a game is a function of its seed and actions


@pytest.mark.parametrize(
    "name, verdict",
    [
        ("odd/Plain-v0", "seeded"), ("odd/Pictures-v0", "seeded"), ("odd/Irregular-v0", "seeded"),
        ("odd/Unseeded-v0", "unseeded"), ("odd/UnseededPictures-v0", "unseeded"), ("odd/Clock-v0", "unseeded"),
        ("odd/Kept-v0", "kept"), ("CartPole-v1", "seeded"), ("Pendulum-v1", "seeded"), ("FrozenLake-v1", "seeded"),
        ("LunarLander-v3", "seeded"), ("BipedalWalker-v3", "kept"), ("CarRacing-v3", "kept"), ("Hopper-v5", "seeded"),
    ],
)  # fmt: skip
def test_a_few_games_tell_whether_a_seed_determines_them(name, verdict):
    pytest.importorskip("mujoco" if name == "Hopper-v5" else "Box2D")
    before = np.random.get_state()[1].copy()
    found, opened = probe.probe(lambda: gymnasium.make(name, disable_env_checker=True))
    assert found == verdict and len(opened) == (2 if verdict == "seeded" else 0)
    assert np.array_equal(np.random.get_state()[1], before)


def resumed(name, steps, **options):
    """Play, resume in new environments after `steps` and play on in both; returns whether all was the same."""
    world, again = (envs.make(name, 2, seed=s, **options) for s in (1, 5))
    chance = torch.Generator().manual_seed(0)

    def action():
        if world.actions is None:
            return torch.rand(2, *world.action_shape, generator=chance) * 2 - 1
        return torch.randint(world.actions, (2,), generator=chance)

    for _ in range(steps):
        world.step(action())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.load_state_dict(world.state_dict())
    for _ in range(120):
        action_ = action()
        a, b = world.step(action_), again.step(action_)
        if not all(torch.equal(x, y) for x, y in zip(a, b, strict=True)):
            return False
    return True


@pytest.mark.parametrize("steps", [150, 400])
def test_a_world_that_keeps_its_simulator_resumes_exactly(steps):
    pytest.importorskip("Box2D")
    assert resumed("BipedalWalker", steps)
    assert resumed(ODD + "Kept-v0", steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(gymnasium_world.short_names()) - {"Catch", "Glimpse", "Gridworld"}))
def test_every_environment_of_gymnasium_resumes_exactly(name):
    for package in ("Box2D", "mujoco"):
        pytest.importorskip(package)
    assert resumed(name, 60 if name == "CarRacing" else 300, **({"flatten": True} if name == "Blackjack" else {}))


@pytest.mark.slow
def test_car_racing_resumes_exactly_in_its_second_game():
    pytest.importorskip("Box2D")
    assert resumed("CarRacing", 1_100)


def test_games_of_a_world_that_keeps_something_are_all_as_the_first():
    world, fixed = envs.make(ODD + "Kept-v0", 1), envs.make(ODD + "Kept-v0", 1, rebuild=False)
    for _ in range(30):
        seen = world.step(act(world)).next_observation, fixed.step(act(fixed)).next_observation
    assert (seen[1] - seen[0]).round().tolist() == [[2, 2, 2]]  # its third game


def test_an_unseeded_world_says_so_and_begins_new_games():
    world = envs.make(ODD + "UnseededPictures-v0", 2)
    assert "no seed determines odd/UnseededPictures-v0" in world.caveat
    for _ in range(5):
        world.step(act(world))
    with pytest.warns(RuntimeWarning, match="not exactly where it stopped"):
        world.load_state_dict(world.state_dict())
    assert world.interrupted.all() and world._length.tolist() == [0, 0] and world._seedings.tolist() == [1, 1]
    assert envs.make(ODD + "Plain-v0").caveat is None


def test_only_the_games_that_arrived_elsewhere_begin_anew():
    world = envs.make(ODD + "Plain-v0", 3)
    for _ in range(5):
        world.step(act(world))
    state = world.state_dict()
    state["present"][1] += 1
    before = world.observation.clone()
    with pytest.warns(RuntimeWarning, match="arrived elsewhere.*new games begin in 1 of 3"):
        world.load_state_dict(state)
    assert world.interrupted.tolist() == [False, True, False] and world._length.tolist() == [5, 0, 5]
    assert torch.equal(world.observation[::2], before[::2]) and not torch.equal(world.observation[1], before[1])


@pytest.mark.parametrize("package", ["agents", pytest.param("vision", marks=pytest.mark.slow)])
def test_a_package_of_the_users_own_in_the_current_directory_is_passed_over(package, tmp_path):
    """Such a name is found first by `python -m agents.dqn`."""
    (tmp_path / "runs.py").write_text("raise SystemExit('those are their runs')")
    done = run([sys.executable, "-c", f"import {package}, runs; print(runs.__file__)"], tmp_path)
    assert done.stdout.strip() == str(ROOT / "runs/__init__.py"), done.stderr


@pytest.mark.slow
def test_so_are_all_of_them(tmp_path):
    for room in ("envs", "runs", "replay", "vision"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text(f"raise SystemExit('that is their {room}')")
    done = run([sys.executable, "-m", "agents.dqn", "--env", "envs.mine:Mine-v0", "--device", "cpu"], tmp_path)
    assert done.returncode == 2 and "envs is a package of this project: rename yours" in done.stderr, done.stderr


def run(command, folder):
    there = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=there)


def test_a_world_in_a_package_that_is_named_as_ours_is_not_found():
    with pytest.raises(
        ValueError, match="No module named 'envs.mine'.*envs is a package of this project: rename yours"
    ):
        envs.make("envs.mine:Mine-v0")


def test_a_run_remembers_where_the_package_of_its_world_lies(tmp_path, monkeypatch):
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "__init__.py").write_text("")
    local = (
        "import gymnasium\nfrom tests.odd_worlds import Plain\ngymnasium.register('Local-v0', entry_point=Plain)\n"
    )
    (tmp_path / "lessons" / "first.py").write_text(local)
    monkeypatch.syspath_prepend(tmp_path)
    assert envs.make("lessons.first:Local-v0").name == "Local-v0"
    assert machine.package_folder("lessons.first:Local-v0") == str(tmp_path.resolve())
    assert machine.package_folder("lessons:Local-v0") == str(tmp_path.resolve())
    assert machine.package_folder("gymnasium:CartPole-v1") is None and machine.package_folder("Breakout") is None
