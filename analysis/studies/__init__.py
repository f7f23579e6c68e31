"""The studies, one per file. A study imports public names of grains_lens and the code that studies share, but never
another study."""
