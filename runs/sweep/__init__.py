"""Sweeps: many runs at once, on one machine or a Ray cluster, over programs, worlds, seeds and hyperparameters.

__main__.py        `python -m runs.sweep`
plan.py            Plan, Study and Trial: what a sweep runs
space.py           dimensions of a search, grids and random points
samplers.py        the next point of a search: grid, random, or Bayesian by Optuna
asha.py            early stopping of poor trials by asynchronous successive halving
preview.py         the config that a command line would train with
engine.py          Sweep: starts, watches, stops and restarts runs
local.py           Local: the executor, as many runs on this machine as cores and memory allow
ray_cluster.py     RayCluster: the executor on the nodes of a Ray cluster; node.py is what it starts there
state.py           how far its runs have come, from their folders, and what has become of them
record.py          the sweep's own folder: its description, its points and what became of each run
table.py           the live table and the results
wandb_sweep.py     the same sweep as a W&B sweep definition
"""
