"""Rainbow: the improvements of deep Q-learning, together or one alone (--only).

loop.py         Config, equations and training loop; `python -m agents.rainbow`
network.py      the network of all components
recipes.py      numbers by world and component
dueling.py      state value and advantages in streams of their own (Wang et al. 2016)
prioritized.py  importance weights of prioritized replay (Schaul et al. 2016)
n_step.py       n-step returns (Sutton 1988)
noisy.py        noisy linear layers (Fortunato et al. 2018)
c51.py          categorical distribution of the return (Bellemare et al. 2017)
qr_dqn.py       quantile regression (Dabney et al. 2018)
iqn.py          implicit quantile networks (Dabney et al. 2018)
munchausen.py   Munchausen reward and soft target (Vieillard et al. 2020)
btr.py          Beyond the Rainbow, as a recipe of all of these (Clark et al. 2024)
"""

from agents.rainbow.loop import Config, build, load, recipe, train, world_options
from agents.rainbow.recipes import COMPONENTS

__all__ = ["COMPONENTS", "Config", "build", "load", "recipe", "train", "world_options"]
