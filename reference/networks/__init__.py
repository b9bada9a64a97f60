"""Networks: multilayer perceptrons, output units with their costs, training."""
