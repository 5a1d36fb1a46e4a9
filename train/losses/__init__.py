"""The terms of the objective, the losses of labels, and the random masks that the student learns under."""
