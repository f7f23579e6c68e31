"""Steering: how vectors act on a model, where, when and how strongly."""
