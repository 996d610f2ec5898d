"""Beyond the Rainbow (BTR): Rainbow with IMPALA's network, IQN, Munchausen, spectral norms and 64 worlds at once.

Clark et al. 2024, "Beyond the Rainbow: high performance deep reinforcement learning on a desktop PC", ICML 2025,
arXiv 2411.03820. A recipe of agents/rainbow's loop, which has all its components as flags:

    python -m agents.rainbow --recipe btr --env Breakout
    python -m agents.rainbow --recipe btr --env Breakout --max-pool 0        # one component out
    python -m agents.rainbow --recipe btr --env Breakout --no-munchausen
    python -m agents.rainbow --recipe btr --env Breakout --no-munchausen --distribution c51
    python -m agents.rainbow --recipe btr --env Breakout --no-spectral --backbone nature --width 1
    python -m agents.rainbow --recipe btr --env Breakout --worlds 1 --batch 16 --learn-every 4

Numbers are table D6 of the paper; what it does not say is as in the authors' code (github.com/VIPTankz/BTR): the
importance exponent of 0.2, which does not rise; priorities of mean absolute errors; the Munchausen bonus by the
online network's policy; the same 8 fractions to predict and to choose by. Other worlds than Atari keep the numbers of
their default recipe, with these components.

Deviations from the paper:
1. Sticky actions without no-ops (Machado et al. 2018); the authors' code adds up to 30 no-ops to them.
2. Exploration begins to fall with the first update, after 200,000 steps, instead of with the first step.
3. Evaluations explore with 0.01 throughout, the paper's with 0 from 125 million frames on. It reports the best
   evaluation, and so does `eval/return` of best.pt.
4. New noise at every call of a layer, where the authors' code draws it once a step. Spectral norms go on where a
   gradient is taken (vision/backbones/layers/normalization.py).
5. The emulator plays the next step while the network learns: a transition reaches the memory one step later.
6. He initialization of the convolutions; bf16 in them where the device is fast at it.
"""

from collections.abc import Iterable
from typing import Any

COMPONENTS = dict(
    double=False,  # Munchausen has no argmax that could be chosen by another network
    dueling=True,
    priority_exponent=0.2,
    importance_exponent=0.2,
    anneal_importance=False,
    priority_of="error",
    n_step=3,
    noisy=True,
    sigma=0.5,
    noisy_epsilon=0.5,  # of 200 million frames
    distribution="iqn",
    fractions=8,
    action_fractions=0,
    munchausen=True,
    munchausen_alpha=0.9,
    temperature=0.03,
    bonus_low=-1.0,
    online_bonus=True,
)
NETWORK = dict(backbone="impala", width=2.0, norm="none", subtract_mean=False, spectral=True, max_pool=6)
ATARI = (
    COMPONENTS
    | NETWORK
    | dict(
        protocol="sticky",
        steps=50_000_000,
        worlds=64,
        hidden=512,
        capacity=2**20,
        learn_start=200_000,
        learn_every=64,
        batch=256,
        updates=1,
        learning_rate=1e-4,
        anneal_lr=False,
        adam_epsilon=0.005 / 256,
        discount=0.997,
        target_update_every=500 * 64,
        max_grad_norm=10.0,
        epsilon=0.01,
        epsilon_steps=2_000_000,
        evaluate_every=250_000,
        evaluate_games=100,
        evaluate_epsilon=0.01,
    )
)
CATCH = COMPONENTS | NETWORK | dict(width=0.5, max_pool=3, steps=24_000)  # maps of 5 x 5


def of(worlds: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What BTR changes of the recipes of these worlds and families."""
    return dict.fromkeys(worlds, COMPONENTS) | {"atari": ATARI, "catch": CATCH, "pixels": COMPONENTS | NETWORK}
