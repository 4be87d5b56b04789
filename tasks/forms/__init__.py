"""The form a plant gets: what to record, and the table to fill in."""
