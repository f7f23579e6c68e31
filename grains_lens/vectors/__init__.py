"""From attributions to steering vectors: what they are, what they were made from, and their files."""
