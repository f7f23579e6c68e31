"""The studies, one per file. None imports another; each imports public names of grains_lens, and what studies share."""
