"""Recurrent networks, written out: `python -m vision.sequences`.

train.py      Config, recipes, training loop; sample.py: load(run).sample(prompt)
cells.py      vanilla RNN, LSTM and GRU, their equations; recurrent.py: layers, unrolled over time
network.py    a recurrent network in four shapes: many_to_many, many_to_one, one_to_many, encoder_decoder
tasks/        text, hello, order, numerals, sums, films
gradient_flow.py   exploding and vanishing gradients as a picture
"""

from vision.sequences.sample import Trained, load

__all__ = ["Trained", "load"]
