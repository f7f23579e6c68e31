"""Steering vectors: how they are made from attributions, their provenance, and their files."""
