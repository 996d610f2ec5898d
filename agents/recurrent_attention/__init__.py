"""Recurrent models of visual attention: images classified in a few glimpses.

ram.py     the recurrent attention model (Mnih et al. 2014); `python -m agents.recurrent_attention`
dram.py    several objects in one image (Ba et al. 2015); `python -m agents.recurrent_attention.dram`
model.py   glimpse network, core, location network and the hybrid loss of both
plots.py   films and sheets of glimpses
"""

from agents.recurrent_attention.ram import Config, recipe, train, watch

__all__ = ["Config", "recipe", "train", "watch"]
