"""What a model does: its answers, its preferences, and how far steering moves it."""
