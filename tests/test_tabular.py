"""Tables: values worked by hand and published, planners against each other and a linear program, learners, resume."""

import dataclasses
import json
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from scipy.optimize import linprog

import envs
from agents import watch
from agents.tabular import dynamic_programming
from agents.tabular import q_learning as tabular
from envs import gridworld
from runs import checkpoint
from runs.progress import Bar

RUSSELL_NORVIG = [[0.812, 0.868, 0.918, 0], [0.762, 0, 0.660, 0], [0.705, 0.655, 0.611, 0.388]]


@pytest.fixture
def undrawn(monkeypatch):
    """A picture takes as long as 10,000 steps."""
    monkeypatch.setattr(tabular.plots, "grids", lambda env: [])


def read(name, **settings):
    return dynamic_programming.model(gymnasium.make(name, **settings))


def grid(rows, **settings):
    return read("saccade/Gridworld-v0", map=rows, **settings)


def trained(tmp_path, env, method, **changes):
    """The folder of a finished run, and its table."""
    asked = tabular.recipe(tabular.Config(env=env, method=method))
    config = dataclasses.replace(asked, folder=tmp_path, wandb="disabled", evaluate_games=4, **changes)
    tabular.train(config)
    (folder,) = tmp_path.glob(f"*/{config.name}")
    return folder, saved(folder)


def saved(folder):
    return next(state for _, state in checkpoint.intact(folder / "checkpoint"))["parts"]["table"]["values"]


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "eval/return" in line]


class Chain(gymnasium.Env):
    """Two states. In 0, waiting earns 1, and going leads to 1 half of the time; 1 earns 2 forever."""

    spec = None
    P = {
        0: {0: [(1.0, 0, 1.0, False)], 1: [(0.5, 1, 0.0, False), (0.5, 0, 0.0, False)]},
        1: {0: [(1.0, 1, 2.0, False)], 1: [(1.0, 1, 2.0, False)]},
    }
    initial_state_distrib = np.array([1.0, 0.0])


# Planning


def test_chain_by_hand():
    world = dynamic_programming.model(Chain())
    # Patient: V(1) = 2 / (1 - 0.9) = 20, V(0) = 0.9 (20 + V(0)) / 2 = 9 / 0.55 by going.
    far = dynamic_programming.value_iteration(world, 0.9, 1e-12)[0]
    v = 9 / 0.55
    assert torch.allclose(far, torch.tensor([[1 + 0.9 * v, v], [20.0, 20.0]], dtype=torch.float64))
    # Impatient: V(1) = 4, V(0) = 1 / (1 - 0.5) by waiting, going is worth 0.5 (4 + 2) / 2.
    near = dynamic_programming.value_iteration(world, 0.5, 1e-12)[0]
    assert torch.allclose(near, torch.tensor([[2.0, 1.5], [4.0, 4.0]], dtype=torch.float64))
    going = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert torch.allclose(
        dynamic_programming.policy_evaluation(going, world, 0.5), torch.tensor([1 / 0.75, 4.0], dtype=torch.float64)
    )


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_corridor_by_hand(discount):
    """d cells before the goal: the step reward d times, discounted, and the goal after d - 1 steps."""
    world = grid("S.....G", slip=0.0, step_reward=-0.1)
    values = dynamic_programming.value_iteration(world, discount)[0].max(1).values
    for d in range(1, 7):
        by_hand = -0.1 * sum(discount**k for k in range(d)) + discount ** (d - 1)
        assert values[6 - d].item() == pytest.approx(by_hand, abs=1e-9)
    assert values[6] == 0  # nothing comes after the end


def test_the_published_utilities_of_russell_and_norvig():
    table, _ = dynamic_programming.value_iteration(grid("4x3"), 1.0)
    assert np.allclose(table.max(1).values.reshape(3, 4), RUSSELL_NORVIG, atol=5e-4)
    arrows = "".join("<v>^"[action] for action in table.argmax(1))
    assert [arrows[0:3], arrows[4], arrows[6], arrows[8:12]] == [">>>", "^", "^", "^<<<"]


WORLDS = {
    "FrozenLake-v1": ({}, 0.99),
    "FrozenLake8x8-v1": ({}, 0.99),
    "CliffWalking-v1": ({}, 0.99),
    "CliffWalkingSlippery-v1": ({}, 0.99),
    "saccade/Gridworld-v0": ({"map": "maze"}, 0.95),
    "Taxi-v4": ({}, 0.9),
}


@pytest.mark.parametrize("name", WORLDS)
def test_policy_and_value_iteration_agree(name):
    settings, discount = WORLDS[name]
    world = read(name, **settings)
    by_value, _ = dynamic_programming.value_iteration(world, discount, 1e-10)
    by_policy, residuals = dynamic_programming.policy_iteration(world, discount)
    assert (by_value - by_policy).abs().max() < 1e-9
    assert residuals[-1] < 1e-11 and len(residuals) < 30


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalkingSlippery-v1"])
def test_value_iteration_against_a_linear_program(name):
    """The least V that is nowhere below its own backup (d'Epenoux 1963)."""
    world, discount = read(name), 0.95
    states, actions = world.reward.shape
    own = torch.eye(states, dtype=torch.float64).repeat_interleave(actions, 0)
    above = discount * world.transition.flatten(0, 1) - own  # (S A, S): r + gamma P V - V <= 0
    found = linprog(np.ones(states), above.numpy(), -world.reward.flatten().numpy(), bounds=(None, None))
    table, _ = dynamic_programming.value_iteration(world, discount, 1e-10)
    assert np.abs(found.x - table.max(1).values.numpy()).max() < 1e-7


def test_frozen_lake_is_optimal_to_a_millionth():
    world, discount = read("FrozenLake-v1"), 0.99
    table, changes = dynamic_programming.value_iteration(world, discount)
    assert dynamic_programming.bellman_residual(table, world, discount) / (1 - discount) < 1e-6
    values = dynamic_programming.policy_evaluation(dynamic_programming.greedy(table), world, discount)
    assert (values - table.max(1).values).abs().max() < 1e-6
    assert values[0].item() == pytest.approx(0.5420259, abs=1e-6)
    ratio = torch.stack(changes[1:]) / torch.stack(changes[:-1])
    assert (ratio <= discount + 1e-6)[torch.stack(changes[1:]) > 1e-12].all()  # the backup contracts


def test_cliff_walking_is_optimal_to_a_millionth():
    world = read("CliffWalking-v1")
    for discount, by_hand in ((1.0, -13.0), (0.99, -(1 - 0.99**13) / 0.01)):  # 13 steps of -1 along the edge
        table, _ = dynamic_programming.value_iteration(world, discount)
        assert (world.start @ table.max(1).values).item() == pytest.approx(by_hand, abs=1e-6)
        assert (
            world.start @ dynamic_programming.policy_evaluation(dynamic_programming.greedy(table), world, discount)
        ).item() == (pytest.approx(by_hand, abs=1e-6))


def test_an_undiscounted_policy_comes_to_its_end():
    """Where waiting is worth as much as going, the first of equal actions would wait forever."""
    line = grid("S..G", slip=0.0, step_reward=0.0)
    table, _ = dynamic_programming.value_iteration(line, 1.0)
    assert dynamic_programming.policy_evaluation(dynamic_programming.greedy(table), line, 1.0)[0].isnan()
    policy = dynamic_programming.best_policy(table, line, 1.0)
    assert dynamic_programming.policy_evaluation(policy, line, 1.0)[0] == 1
    steps = line._replace(reward=torch.ones_like(line.reward))
    assert dynamic_programming.policy_evaluation(policy, steps, 1.0)[0] == 3
    lake = read("FrozenLake-v1")
    for plan in (dynamic_programming.value_iteration, dynamic_programming.policy_iteration):
        policy = dynamic_programming.best_policy(plan(lake, 1.0)[0], lake, 1.0)
        assert dynamic_programming.policy_evaluation(policy, lake, 1.0)[0].item() == pytest.approx(14 / 17, abs=1e-6)


def test_a_policy_that_never_ends_has_no_value_undiscounted():
    world = grid("S.G", slip=0.0, step_reward=-1.0)
    left, right = (torch.nn.functional.one_hot(torch.tensor([a] * 3), 4) for a in (0, 2))
    assert dynamic_programming.policy_evaluation(left, world, 1.0)[:2].isnan().all()
    assert dynamic_programming.policy_evaluation(left, world, 0.5)[:2].tolist() == pytest.approx([-2, -2])
    assert dynamic_programming.policy_evaluation(right, world, 1.0).tolist() == [-1, 0, 0]


def test_improvement_that_never_ends_says_so():
    with pytest.raises(ValueError, match="choose a --discount below 1"):
        dynamic_programming.policy_iteration(grid("S.P", slip=0.0, step_reward=0.5), 1.0)
    with pytest.raises(ValueError, match="still changes by 5.0e-01"):
        dynamic_programming.value_iteration(grid("S.P", slip=0.0, step_reward=0.5), 1.0, sweeps=50)


# The learners' equations


def test_targets_by_hand():
    reward, discount = torch.tensor([1.0, 2.0]).double(), torch.tensor([0.5, 0.0]).double()
    next_value = torch.tensor([[3.0, 8.0], [4.0, 5.0]]).double()
    assert tabular.q_learning_target(reward, discount, next_value).tolist() == [5, 2]
    assert tabular.sarsa_target(reward, discount, next_value, torch.tensor([0, 1])).tolist() == [2.5, 2]
    assert tabular.monte_carlo_returns(torch.tensor([1.0, 2.0, 4.0]), 0.5, torch.tensor(8.0)).tolist() == [4, 6, 8]


def test_update_by_hand():
    table, visits = torch.full((2, 2), 8.0).double(), torch.zeros(2, 2).double()
    state, action = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 0])
    target = torch.tensor([2.0, 3.0, 5.0]).double()
    moved, counted = tabular.update(table, visits, state, action, target, 0.5, 0.0)
    assert counted.tolist() == [[0, 1], [2, 0]]
    assert moved.tolist() == [[8, 5], [4 + 4 * 0.25, 8]]  # twice half of the way to the mean, 4
    moved, counted = tabular.update(moved, counted, state[:1], action[:1], target[:1], 1.0, 1.0)
    assert moved[0, 1] == 5 + (2 - 5) / 2 and counted[0, 1] == 2  # 1 / n at the second visit


def test_first_visits():
    assert tabular.first_visits(torch.tensor([3, 1, 3, 0, 1])).tolist() == [True, True, False, True, False]


def test_episodes_come_out_whole():
    episodes = tabular.Episodes(2)
    lasts = [[False, False], [False, True], [True, False]]
    games = []
    for t, last in enumerate(lasts):
        state = torch.tensor([t, 10 + t])
        step = envs.Transition(None, state + 1, state + 0.5, None, None, torch.tensor(last))
        games += episodes.add(step, state)
    assert [(n, state.tolist(), reward.tolist()) for n, state, _, reward in games] == [
        (1, [10, 11], [10.5, 11.5]),
        (0, [0, 1, 2], [0.5, 1.5, 2.5]),
    ]
    assert episodes.state_dict()["steps"] == [[], [[12, 13, 12.5]]]


# Learning


@pytest.mark.parametrize("method", ["q_learning", "sarsa", "monte_carlo"])
def test_learns_within_two_percent(tmp_path, method, undrawn):
    folder, _ = trained(
        tmp_path, "Gridworld", method, steps=48_000, epsilon_steps=40_000, evaluate_every=48_000, seed=2
    )
    (line,) = evaluations(folder)
    assert line["value/optimal"] == pytest.approx(0.705, abs=5e-4)
    assert line["value/start"] > 0.98 * line["value/optimal"]


def test_sarsa_keeps_away_from_the_cliff(tmp_path, undrawn):
    """Sutton & Barto 2018, example 6.6: Q-learning walks along the edge and falls, SARSA takes the safe way."""
    constant = dict(epsilon=0.1, epsilon_steps=0, learning_rate=0.1, learning_rate_power=0.0, worlds=16)
    worth, turns = {}, {}
    world = read("CliffWalking-v1")
    for method in ("q_learning", "sarsa"):
        _, table = trained(tmp_path, "CliffWalking", method, steps=24_000, evaluate_every=24_000, **constant)
        exploring = 0.9 * dynamic_programming.greedy(table) + 0.1 / 4
        worth[method] = (world.start @ dynamic_programming.policy_evaluation(exploring, world, 1.0)).item()
        turns[method] = "^>v<"[table[24].argmax()]  # in the cell above the start: along the edge, or further up
    assert turns == {"q_learning": ">", "sarsa": "^"}
    assert worth["sarsa"] > worth["q_learning"] + 10


@pytest.mark.parametrize("env", ["CliffWalking", "Gridworld"])
def test_a_policy_that_never_ends_is_called_that_and_not_worth_nan(tmp_path, env, undrawn, monkeypatch):
    said = []
    monkeypatch.setattr(Bar, "say", lambda self, words: said.append(words))
    short = dict(steps=64, limit=20, step_reward=-1.0 if env == "Gridworld" else None)
    folder, _ = trained(tmp_path, env, "q_learning", learning_rate=1e-9, evaluate_every=10_000, **short)
    printed = " ".join(said)
    assert "the greedy policy never comes to an end" in printed and "nan" not in printed
    (line,) = evaluations(folder)
    assert "value/start" not in line and np.isfinite(list(line.values())).all()


def test_a_table_lies_on_the_cpu(tmp_path, undrawn):
    trained(tmp_path, "Gridworld", "q_learning", steps=64, device="auto", limit=20)
    with pytest.raises(ValueError, match="--device mps"):
        trained(tmp_path, "Gridworld", "sarsa", steps=64, device="mps")


@pytest.mark.parametrize("method", ["q_learning", "monte_carlo"])
def test_a_time_limit_is_not_an_end(tmp_path, method, undrawn):
    """Games of a single step, from anywhere: only what comes after the cut can tell the cells apart."""
    rows = ".....G"
    _, table = trained(
        tmp_path, "Gridworld", method, map=rows, slip=0.0, step_reward=-1.0, limit=1, discount=0.9, steps=4_800,
        epsilon=1.0, learning_rate_power=0.0, evaluate_every=10_000,
    )  # fmt: skip
    optimal, _ = dynamic_programming.value_iteration(grid(rows, slip=0.0, step_reward=-1.0), 0.9)
    assert (table - optimal).abs().max() < 1e-6


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["q_learning", "sarsa", "monte_carlo"])
def test_resume_is_exact(tmp_path, monkeypatch, method, undrawn):
    short = dict(steps=3_200, worlds=4, epsilon_steps=3_000, evaluate_every=2_000, log_every=100, name="run")
    folder, table = trained(tmp_path / "whole", "Gridworld", method, **short)
    plain = tabular.epsilon_at

    def fatal(config, step):
        if step == 2_400:
            raise Killed
        return plain(config, step)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(tabular, "epsilon_at", fatal)
        trained(tmp_path / "killed", "Gridworld", method, save_every=0.1, **short)
    assert list((tmp_path / "killed").glob("*/run/checkpoint/[0-9]*.json"))
    again, resumed = trained(tmp_path / "killed", "Gridworld", method, save_every=0.1, **short)
    assert torch.equal(table, resumed) and table.any()
    assert (folder / "metrics.jsonl").read_text() == (again / "metrics.jsonl").read_text()


# Pictures, watching, errors


@pytest.mark.parametrize(
    ("env", "method"),
    [("Gridworld", "value_iteration"), ("CliffWalking", "policy_iteration"), ("Taxi", "value_iteration")],
)
def test_a_planned_run_has_a_picture_and_is_watched(tmp_path, env, method):
    folder, table = trained(tmp_path, env, method)
    (line,) = evaluations(folder)
    assert line["value/start"] == pytest.approx(line["value/optimal"], abs=1e-8)
    assert line["loss/residual"] < 1e-9 and line["value/error"] < 1e-8
    assert (folder / "values.png").read_bytes()[:4] == b"\x89PNG"
    watch.main(watch.Config(folder, games=20, film=False))
    scores = json.loads((folder / "watch.jsonl").read_text())
    if env == "CliffWalking":
        assert scores["returns"] == [-13.0] * 20
    else:
        assert scores["mean"] > 0.3


@pytest.mark.parametrize(
    ("env", "changes", "message"),
    [
        ("FrozenLak", {}, "unknown world 'FrozenLak': did you mean 'FrozenLake"),
        ("Catch", {}, "Catch-v0 does not publish its model"),
        ("Pong", {}, "Pong does not publish its model"),
        ("Taxi", {"map": "4x3"}, "--map: it is for Gridworld, and Taxi is none"),
    ],
)
def test_errors_name_the_way_out(tmp_path, env, changes, message):
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, env, "q_learning", **changes)


# The gridworld, as other libraries meet it


def test_gridworld_passes_gymnasiums_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make("saccade/Gridworld-v0", render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_gridworld_as_a_vector_environment(mode):
    walks = gymnasium.make_vec(
        "saccade/Gridworld-v0", 3, "vector_entry_point", map="S.G", slip=0.0, autoreset_mode=mode
    )
    observation, _ = walks.reset(seed=7)
    assert walks.observation_space.contains(observation) and observation.tolist() == [0, 0, 0]
    walks.step(np.array([2, 2, 0]))
    observation, reward, terminated, truncated, info = walks.step(np.array([2, 0, 2]))
    assert reward.tolist() == pytest.approx([0.96, -0.04, -0.04])
    assert terminated.tolist() == [True, False, False] and not truncated.any()
    if mode == AutoresetMode.SAME_STEP:
        assert observation.tolist() == [0, 0, 1] and info["final_obs"][0] == 2
    elif mode == AutoresetMode.NEXT_STEP:
        assert observation.tolist() == [2, 0, 1]
        observation, reward, terminated, *_ = walks.step(np.array([2, 2, 2]))
        assert observation.tolist() == [0, 1, 2] and reward.tolist() == pytest.approx([0, -0.04, 0.96])
        assert terminated.tolist() == [False, False, True]
    else:
        with pytest.raises(RuntimeError, match="reset it first"):
            walks.step(np.array([2, 2, 2]))
        observation, _ = walks.reset(options={"reset_mask": np.array([True, False, False])})
        assert observation.tolist() == [0, 0, 1]


def test_gridworld_plays_as_its_model_says():
    rows, slip = "..P/S.G/#..", 0.3
    walks = gridworld.GridworldVectorEnv(2_000, rows, slip, autoreset_mode=AutoresetMode.DISABLED)
    for action in range(4):
        expected = np.zeros(9)
        for probability, state, _, _ in walks.P[3][action]:
            expected[state] += probability
        assert expected.sum() == pytest.approx(1)
        walks.reset(seed=action)
        there, reward, terminated, *_ = walks.step(np.full(2_000, action))
        assert np.abs(np.bincount(there, minlength=9) / 2_000 - expected).max() < 0.05
    assert walks.P[4][2] == [
        (0.7, 5, pytest.approx(0.96), True),
        (pytest.approx(0.15), 7, -0.04, False),
        (pytest.approx(0.15), 1, -0.04, False),
    ]
    assert walks.P[5][0] == [(1.0, 5, 0.0, True)]


def test_gridworld_is_cut_short_and_resumes():
    world = envs.make("gridworld", 3, limit := 1, map="four-rooms", max_episode_steps=7)
    assert world.name == "Gridworld" and world.observation_shape == (169,)
    right = torch.full((3,), 2)
    for t in range(limit, 8):
        step = world.step(right)
        assert step.last.all() == (t == 7) and (step.discount == 1).all()
    assert world.finished["episode/length"] == [7] * 3
    again = envs.make("gridworld", 3, 9, map="four-rooms", max_episode_steps=7)
    world.step(right)
    again.load_state_dict(world.state_dict())
    for _ in range(10):
        a, b = world.step(right), again.step(right)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert world.render().shape == (3, 13 * 40, 13 * 40, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"map": "four-room"}, "did you mean 'four-rooms'"),
        ({"map": "S.X"}, "not of 'X'"),
        ({"map": "S./G"}, r"equally long, these have \[2, 1\] cells"),
        ({"map": "S.."}, "somewhere to end"),
        ({"slip": 1.5}, "slip is a probability"),
    ],
)
def test_bad_gridworlds(settings, message):
    with pytest.raises(ValueError, match=message):
        envs.make("Gridworld", **settings)
