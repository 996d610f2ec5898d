"""Linear models: perceptron, Adaline, regression, logistic, SVM: `python -m vision.classification.linear`.

objectives.py  losses by name, of regression, one-vs-all and multiclass, and the elastic net
solvers.py     minimization: closed form, L-BFGS, proximal gradient; gradient descent; random search
perceptron.py  the perceptron's and Adaline's rules, and the perceptron's convergence bound

`python -m vision.classification.classical` trains the same losses on images, by SGD.
"""

from vision.classification.linear.objectives import LOSSES, Objective
from vision.classification.linear.perceptron import adaline, convergence_bound, perceptron
from vision.classification.linear.solvers import (
    Linear,
    gradient_descent,
    least_squares,
    normal_equations,
    random_parameters,
    solve,
)

__all__ = [
    "LOSSES",
    "Linear",
    "Objective",
    "adaline",
    "convergence_bound",
    "gradient_descent",
    "least_squares",
    "normal_equations",
    "perceptron",
    "random_parameters",
    "solve",
]
