"""What the contests of replayed Q-learning have in common: their numbers, our programs, and Tianshou's loop."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from paired import NEVER, SEED, Scene, program

if TYPE_CHECKING:
    from tianshou.algorithm import DQN, RainbowDQN
    from tianshou.data import VectorReplayBuffer

LEARNING_STARTS = 1_000  # agent steps before the first update, every contestant
WARM_UP = 1_400  # agent steps before the first window: some hundred with learning on
SAMPLES = 8  # learned from per agent step
CAPACITY = 100_000  # transitions in replay
NUMBERS = {"learn_start": LEARNING_STARTS, "samples_per_step": SAMPLES, "capacity": CAPACITY}  # for the JSON


def saccade(module: str, batch: int = 64, **other: object) -> Callable[[Scene], None]:
    """One of our programs, its recipe but for the contest's numbers: the peers' samples a step; other flags."""

    def train(scene: Scene) -> None:
        every = batch // SAMPLES
        flags = dict(capacity=CAPACITY, learn_start=LEARNING_STARTS, epsilon_steps=0, steps=NEVER)
        flags |= dict(name=f"batch-{batch}", batch=batch, learn_every=every, worlds=max(16, every))
        program(module, scene, WARM_UP, **flags | other)

    return train


def tianshou(
    algorithm: Callable[[tuple[int, ...], object], "DQN | RainbowDQN"],
    memory: Callable[[int], "VectorReplayBuffer"],
    together: int,
    worlds: int = 8,
) -> Callable[[Scene], None]:
    """Tianshou's OffPolicyTrainer around an algorithm, on the Atari worlds that it prefers, EnvPool's.

    Args:
        algorithm: from the observation's shape and the action space.
        memory: from the number of worlds.
        together: agent steps collected before their updates, of 32 samples each.
    """

    def train(scene: Scene) -> None:
        import envpool  # noqa: F401  (without it Tianshou 2.0.1 takes its own wrappers, which NumPy 2.4 breaks)
        from tianshou.data import Collector, CollectStats
        from tianshou.env.atari.atari_wrapper import AtariEnvFactory
        from tianshou.highlevel.env import EnvMode
        from tianshou.trainer import OffPolicyTrainerParams

        random.seed(SEED)
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        world = AtariEnvFactory(f"{scene.game}NoFrameskip-v4", frame_stack=4).create_venv(
            worlds, EnvMode.TRAINING, seed=SEED
        )
        learner = algorithm(world.observation_space.shape, world.action_space).to(scene.device)
        collector = Collector[CollectStats](learner, world, memory(worlds), exploration_noise=True)
        collector.reset()
        collector.collect(n_step=LEARNING_STARTS)
        gate = scene.gate(WARM_UP)
        learner.run_training(
            OffPolicyTrainerParams(
                training_collector=collector,
                max_epochs=1,
                epoch_num_steps=NEVER,
                collection_step_num_env_steps=together,
                update_step_num_gradient_steps_per_sample=SAMPLES / 32,
                batch_size=32,
                training_fn=lambda _, steps: gate(LEARNING_STARTS + steps),  # called once every time around
                show_progress=False,
                verbose=False,
            )
        )

    return train
