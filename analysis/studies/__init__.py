"""The studies, one per file. A study imports public names of grains_lens and code shared by studies, but
never another study."""
