"""Hooked models as we need them: the only code that touches hooks, caches and transformer-lens."""
