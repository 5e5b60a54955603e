"""Fitting a model so that it can be stopped at any moment and resumed: checkpoints, callbacks, signals."""
