"""Find the prompt tokens that drive a preference, and the layers it passes through."""
