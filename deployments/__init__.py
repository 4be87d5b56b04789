"""How flows are started: by hand (`cli.py`), later on a schedule and by events."""
