"""Training of every vision task: what tasks share beside backbones and data.

optimizers.py    optimizers by name, frozen layers, parameter groups, weight averaging, max-norm constraint
muon.py          Muon: orthogonalized momentum
second_order.py  Newton, BFGS, L-BFGS; line_search.py: strong Wolfe conditions
optimizer_paths.py   `python -m vision.training.optimizer_paths`: their paths as a film
parameter_server.py  `python -m vision.training.parameter_server`: synchronous against asynchronous SGD, a picture
schedules.py     learning-rate schedules, reduce on plateau, early stopping
losses.py        cross-entropy, hinge, label smoothing, L1 and L2 penalties
sampling.py      batch order, few-shot subsets, cross-validation folds
estimate.py      how long a run takes, before it begins
augmentation.py  data augmentation by name, mixup, normalization, test-time augmentation
"""
