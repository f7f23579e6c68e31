"""Measure a model: its answers, its preferences, and how far steering moves it."""
