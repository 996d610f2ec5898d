"""What decides. Every file is a program: python -m agents.<file> --env <world>

dqn.py    deep Q-learning (Mnih et al. 2015), Double DQN as a switch
watch.py  plays, scores and films the agent of any run
"""
