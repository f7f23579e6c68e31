"""Text and pictures to token ids, batches of them, and the log-probabilities of answers."""
