"""Double DQN: the online network chooses the next action, the target network says what it is worth.

van Hasselt et al. 2016, "Deep reinforcement learning with double Q-learning", equation 4: td_target in agents/dqn.py.

    python -m agents.double --env Breakout

The loop is agents/rainbow.py's with only this component on; `python -m agents.dqn --double` is the same agent.
"""

if __name__ == "__main__":
    from agents import rainbow

    rainbow.launch("double", __doc__)
