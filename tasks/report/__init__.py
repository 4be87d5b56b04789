"""The pages a run hands over: one a package, one an asset; each a single HTML file that needs nothing beside it."""
