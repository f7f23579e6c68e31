"""Steering: how, where, when and how strongly vectors act on a model."""
