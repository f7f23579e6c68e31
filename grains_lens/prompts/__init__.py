"""Convert text and images to token ids, batch them, and compute the log-probabilities of answers."""
