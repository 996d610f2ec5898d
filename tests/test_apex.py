"""Ape-X: equations by hand, messages, actors that die, and learning with actors in processes of Ray."""

import contextlib
import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

import envs
import runs
from agents import watch
from agents.apex import actor, actor_pool, loop, messages
from envs import Transition
from replay import FrameReplay, PrioritizedReplay, RowReplay
from runs import ray_connection
from runs.files import RunError
from runs.reader import read_run
from tests.test_ray import below


def test_exploration_rates_by_hand():
    """Horgan 2018, section 4.1: epsilon 0.4, alpha 7."""
    rates = actor.exploration_rates(3, 0.4, 7.0)
    torch.testing.assert_close(rates, torch.tensor([0.4, 0.4**4.5, 0.4**8]))
    assert actor.exploration_rates(1, 0.4, 7.0).tolist() == pytest.approx([0.4])


def test_the_priorities_of_an_actor_by_hand():
    """Five steps of one world, n = 2, gamma = 1/2; an episode ends truly at step 1, and is cut at step 2."""
    reward = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])
    discount = torch.tensor([[1.0], [0.0], [1.0], [1.0], [1.0]])
    last = torch.tensor([[False], [True], [True], [False], [False]])
    value = torch.tensor([[0.5], [0.0], [1.0], [-1.0], [0.0]])
    following = torch.tensor([[10.0], [20.0], [30.0], [40.0], [50.0]])
    error = actor.n_step_errors(value, following, reward, discount, last, 0.5, 2)
    expected = [
        1 + 0.5 * 2 - 0.5,  # ends at step 1: nothing is bootstrapped
        2.0,
        3 + 0.5 * 30 - 1.0,  # cut after one step, which bootstraps
        4 + 0.5 * 5 + 0.25 * 50 + 1.0,
        5 + 0.5 * 50,  # the last of these steps has a return of one step
    ]
    torch.testing.assert_close(error, torch.tensor(expected)[:, None])
    one = actor.n_step_errors(value, following, reward, discount, last, 0.5, 1)
    torch.testing.assert_close(one, (reward + 0.5 * discount * following - value).abs())


def test_the_target_by_hand():
    """Double Q-learning: the online network chooses, the target network values."""
    target = loop.td_target(
        torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]),
        torch.tensor([[1.0, 5.0], [7.0, 8.0]]), torch.tensor([[3.0, 2.0], [0.0, 1.0]]),
    )  # fmt: skip
    assert target.tolist() == [1.5, 2.0]


@pytest.mark.parametrize("name", ["Catch", "CartPole"])
def test_a_message_gives_back_the_steps_and_holds_every_frame_once(name):
    world, generator = envs.make(name, 3, seed=1), torch.Generator().manual_seed(0)
    steps = [world.step(torch.randint(world.actions, (3,), generator=generator)) for _ in range(40)]
    assert torch.stack([step.last for step in steps]).any()
    error = torch.rand(40, 3)
    message = messages.pack(steps, world.stack, error, {}, 7)
    found = list(messages.unpack(message, torch.device("cpu")))
    for t, (step, (again, priority)) in enumerate(zip(steps, found, strict=True)):
        for field in Transition._fields[:-1]:
            assert torch.equal(getattr(step, field), getattr(again, field)), (t, field)
        assert torch.equal(again.last, step.last if t < 39 else torch.ones(3, dtype=torch.bool))
        assert torch.equal(priority, error[t])
    whole = sum(value.nbytes for step in steps for value in step)
    assert messages.size(message) < 0.8 * whole
    memory = FrameReplay(1_000, 3, world.stack) if name == "Catch" else RowReplay(1_000, 3)
    for step, _ in [*found, *found]:  # another actor's message follows
        memory.add(step)
    assert memory.sample(64, steps=3).reward.shape == (64, 3)


def rows(count, reward):
    ones = torch.ones(count)
    return Transition(
        ones[:, None], ones.long(), ones * reward, ones, ones[:, None], torch.zeros(count, dtype=torch.bool)
    )


def test_given_errors_are_the_first_priorities(tmp_path):
    """p = (|error| + e)^a of rows as soon as they have their successors; rows without get the largest so far."""
    replay = PrioritizedReplay(RowReplay(8, 1), exponent=0.5, smallest=1e-6)
    for error in (4.0, 9.0, 1.0):
        replay.add(rows(1, error), torch.tensor([-error]))
    replay.sample(4, steps=2)

    def priorities():
        return (replay.priorities.leaves[:8] / 2**24).tolist()

    assert priorities()[:3] == pytest.approx([2.0, 3.0, 0.0], abs=1e-4)  # the newest has no successor yet
    replay.add(rows(1, 0.0))
    replay.add(rows(1, 0.0), torch.tensor([16.0]))
    drawn = replay.sample(400, steps=2, importance_exponent=1.0)
    assert priorities()[:5] == pytest.approx([2.0, 3.0, 1.0, 1.0, 0.0], abs=1e-4)
    counts = torch.bincount(drawn.index, minlength=4).tolist()
    assert counts == pytest.approx([400 * p / 7 for p in (2, 3, 1, 1)], abs=2)  # stratified
    replay.update(torch.tensor([1]), torch.tensor([25.0]))
    for _ in range(6):  # overwrites the rows whose priorities were given
        replay.add(rows(1, 0.0))
    replay.sample(4, steps=2)
    assert priorities() == pytest.approx([5.0, 5.0, 0.0, 1.0, 4.0, 5.0, 5.0, 5.0], abs=1e-4)
    state = replay.save(tmp_path)
    again = PrioritizedReplay(RowReplay(8, 1), exponent=0.5, smallest=1e-6)
    again.load(tmp_path, state)
    assert torch.equal(again.priorities.leaves, replay.priorities.leaves)


class Dead(Exception):
    pass


class Failed(Exception):
    def __init__(self, cause):
        self.cause = cause


class Call:
    """A method of a pretended actor: what it returns is worked out where it is asked for."""

    def __init__(self, function):
        self.function = function

    def remote(self, *arguments):
        return lambda: self.function(*arguments)


class FakeRay:
    """Ray in this process: an actor is an object, a message is played when it is received.

    faults: by the number of the message, "dead" or an error.
    """

    class exceptions:
        RayActorError, RayTaskError = Dead, Failed

    def __init__(self, faults=None):
        self.faults, self.received, self.made = faults or {}, 0, []

    def remote(self, kind):
        ray = self

        class Made:
            def __init__(self, *arguments):
                ray.made.append(arguments[-1])
                self.play = Call(kind(*arguments).play)

        class Maker:
            def options(self, **options):
                return self

            def remote(self, *arguments):
                return Made(*arguments)

        return Maker()

    def put(self, value):
        return value

    def wait(self, replies, timeout):
        return replies[:1], replies[1:]

    def get(self, reply):
        self.received += 1
        fault = self.faults.get(self.received)
        if fault == "dead":
            raise Dead("killed")
        if fault:
            raise Failed(fault)
        return reply()

    def kill(self, actor):
        pass


@pytest.fixture
def pretended(monkeypatch):
    """pretended(faults): trains without Ray, with actors in this process. Returns the FakeRay."""

    def use(faults=None):
        ray = FakeRay(faults)
        monkeypatch.setattr(ray_connection, "connected", lambda *_: contextlib.nullcontext(ray))
        return ray

    return use


def quick(folder, env="Catch", **changes):
    config = loop.recipe(loop.Config(env=env))
    shared = dict(folder=folder, wandb="disabled", device="cpu", film_seconds=0.0)
    return dataclasses.replace(config, **shared | changes)


TINY = dict(steps=400, learn_start=100, evaluate_every=200, evaluate_games=2, hidden=16, width=0.25, log_every=100)


def test_dead_actors_are_replaced_and_old_messages_discarded(tmp_path, pretended):
    ray = pretended({3: "dead", 8: "dead"})
    loop.train(quick(tmp_path, **TINY, actors=2, max_staleness=4))
    run = read_run(tmp_path / "Catch" / "apex-1")
    assert run.status == "finished" and run.step == 400
    assert run.last("actors/lost") == 2 and len(ray.made) == 4 and len(set(ray.made)) == 4  # each has its own games
    assert run.last("actors/discarded") > 0
    staleness = [line["actors/staleness"] for line in run.lines if "actors/staleness" in line]
    assert max(staleness) <= 4
    assert watch.main(watch.Config(tmp_path / "Catch" / "apex-1", games=2, film=False)) is None


def test_the_error_of_an_actor_and_actors_that_never_live_end_the_run(tmp_path, pretended):
    pretended({3: ValueError("a broken world")})
    with pytest.raises(ValueError, match="a broken world"):
        loop.train(quick(tmp_path, **TINY, name="broken"))
    pretended(dict.fromkeys(range(1, 100), "dead"))
    with pytest.raises(RunError, match="actors die as they start: killed"):
        loop.train(quick(tmp_path, **TINY, name="dying"))


def test_it_resumes_from_its_checkpoint_with_other_games(tmp_path, pretended, stop_at):
    first = pretended()
    config = quick(tmp_path, **TINY, save_every=0.0)
    stop_at(250, loop.train, config)
    second = pretended()
    loop.train(config)
    run = read_run(tmp_path / "Catch" / "apex-1")
    assert run.status == "finished" and run.step == 400 and not set(first.made) & set(second.made)
    assert [line["step"] for line in run.evaluations] == [200, 400]


def test_wrong_numbers_and_a_missing_ray_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="--rollout 2: returns of --n-step 3"):
        quick(tmp_path, rollout=2).validate()
    with pytest.raises(ValueError, match="--capacity 8"):
        quick(tmp_path, capacity=8).validate()
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match=r"saccade\[ray\]"):
        loop.train(quick(tmp_path))
    assert loop.recipe(loop.Config(env="Pong", recipe="paper")).actors == 360


def playing():
    """The processes below this one that are actors of Ape-X."""
    found = set()
    for pid in below(os.getpid()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Actor"):
                found.add(pid)
    return found


@pytest.mark.slow
def test_it_learns_catch_though_actors_are_killed(tmp_path, monkeypatch):
    """By processes of Ray, of which two are killed on the way. Random play returns about -0.8, a perfect one 1."""
    pytest.importorskip("ray")
    killed, seen = [], set()
    log = runs.Run.log

    def killing(self, metrics):
        log(self, metrics)
        if len(killed) < 3 and self.step >= 4_000 * (1 + len(killed)):
            found = playing()
            seen.update(found)
            killed.append(min(found))
            if len(killed) < 3:
                os.kill(killed[-1], signal.SIGKILL)

    monkeypatch.setattr(runs.Run, "log", killing)
    loop.train(quick(tmp_path, actors=2))
    run = read_run(tmp_path / "Catch" / "apex-1")
    assert len(seen) == 4 and run.last("actors/lost") == 2
    assert run.status == "finished" and run.final["eval/return"] > 0.9, json.dumps(run.evaluations)
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in seen):
        assert time.monotonic() < end, "actors outlive their run"
        time.sleep(0.1)


@pytest.mark.slow
def test_it_learns_cartpole(tmp_path):
    pytest.importorskip("ray")
    loop.train(quick(tmp_path, "CartPole", actors=2))
    run = read_run(tmp_path / "CartPole-v1" / "apex-1")
    assert run.best["eval/return"] > 450, json.dumps(run.evaluations)
    assert torch.load(max((run.folder / "checkpoint").glob("0*.pt")), weights_only=True)["step"] == 40_000


def test_an_actors_message_is_of_its_world(tmp_path):
    config = quick(tmp_path, actors=2, worlds=3, rollout=20)
    player = actor.Actor(config, loop.build, 1, 5)
    torch.testing.assert_close(player.epsilon, actor.exploration_rates(6, 0.4, 7.0)[3:])
    message = player.play(0, None)
    assert message.reward.shape == (20, 3) and message.version == 0 and len(message.finished["episode/return"]) >= 3
    network = loop.build(config, player.world)
    again = player.play(3, messages.weights(network))
    assert again.version == 3
    for name, value in player.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    assert actor_pool.MAX_DEATHS and (again.error >= 0).all()
