"""Recipes of Rainbow and of its components alone: numbers by world where it has its own, else by family."""

from typing import Any

COMPONENTS: dict[str, dict] = {  # what --only switches on
    "double": dict(double=True),
    "dueling": dict(dueling=True),
    "prioritized": dict(priority_exponent=0.6),
    "n_step": dict(n_step=3),
    "noisy": dict(noisy=True),
    "c51": dict(distribution="c51"),
    "qr_dqn": dict(distribution="qr_dqn"),
    "iqn": dict(distribution="iqn"),
    "munchausen": dict(munchausen=True),
    "rainbow": dict(double=True, dueling=True, priority_exponent=0.5, n_step=3, noisy=True, distribution="c51"),
}
CONTROL = dict(
    steps=120_000,
    worlds=4,
    hidden=256,
    capacity=100_000,
    learn_start=1_000,
    learn_every=4,
    batch=64,
    learning_rate=1e-3,
    anneal_lr=True,
    adam_epsilon=1e-8,
    target_update_every=500,
    huber=False,
    max_grad_norm=10.0,
    epsilon=0.05,
    epsilon_steps=20_000,
    evaluate_every=5_000,
    evaluate_games=20,
    evaluate_epsilon=0.0,
    log_every=1_000,
)
SMALL = CONTROL | dict(atoms=101, quantiles=32)  # 200 quantiles are 40,000 pairs a transition: updates take 20 times
RECIPES: dict[str, dict[str, Any]] = {  # v_min and v_max: of discounted returns, for c51
    "atari": dict(v_min=-10.0, v_max=10.0),
    "catch": CONTROL
    | dict(
        v_min=-1.0,
        v_max=1.0,
        steps=16_000,
        hidden=64,
        batch=32,
        epsilon_steps=5_000,
        evaluate_every=4_000,
        evaluate_games=40,
    ),
    "control": SMALL | dict(v_min=-100.0, v_max=100.0, atoms=201),
    "CartPole-v1": SMALL
    | dict(
        v_min=0.0,
        v_max=50.0,
        atoms=51,
        steps=80_000,
        discount=0.98,
        target_update_every=100,
        epsilon_steps=8_000,
    ),
    "Acrobot-v1": SMALL | dict(v_min=-100.0, v_max=0.0, steps=40_000, target_update_every=100, epsilon_steps=8_000),
    "LunarLander-v3": SMALL
    | dict(v_min=-200.0, v_max=300.0, steps=250_000, learning_rate=5e-4, epsilon_steps=30_000, evaluate_every=12_500),
    "MountainCar-v0": SMALL
    | dict(
        v_min=-100.0,
        v_max=0.0,
        capacity=10_000,
        learn_every=2,
        batch=128,
        learning_rate=4e-3,
        discount=0.98,
        target_update_every=600,
        epsilon=0.07,
        epsilon_steps=25_000,
    ),
    "pixels": dict(
        v_min=-100.0,
        v_max=100.0,
        atoms=201,
        steps=1_000_000,
        worlds=8,
        capacity=200_000,
        huber=False,
        evaluate_every=50_000,
    ),
}
OVERRIDES = {  # of a component alone, or of all of them, in one world
    ("rainbow", "atari"): dict(  # Pong: 20.5 and 17.3 in seeds 1 and 2 (runs/published/atari)
        subtract_mean=True,  # without these three ReLUs of dense layers die
        norm="layer",
        sigma=0.1,
        steps=600_000,
        capacity=300_000,
        learn_start=10_000,
        learning_rate=2e-4,
        target_update_every=1_000,
    ),
    ("iqn", "Acrobot-v1"): dict(steps=100_000),  # of 40,000, most pass before it first sees the goal
}
PAPER = {
    "atari": dict(  # Hessel 2018, table 1, and DQN Zoo's evaluation
        steps=50_000_000,
        worlds=1,
        capacity=1_000_000,
        learn_start=20_000,
        learn_every=4,
        batch=32,
        learning_rate=6.25e-5,
        adam_epsilon=1.5e-4,
        target_update_every=8_000,
        subtract_mean=False,
        norm="none",
        sigma=0.5,
        evaluate_epsilon=0.0,
    )
}


def of(only: str) -> dict[str, dict[str, Any]]:
    """The recipes of a component alone, or of "rainbow"."""
    return {
        world: numbers | COMPONENTS[only] | OVERRIDES.get((only, world), {}) for world, numbers in RECIPES.items()
    }
