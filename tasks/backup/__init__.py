"""Backups of a store: what it held at one moment, kept once however often it is backed up, and given back whole.

- `order`: in which order a store is read while runs write to it, and written while nobody shall see half of it;
- `catalogue`: what a backup says of itself, and where it lies;
- `making`, `restoring`, `keeping`: make one, give it back, hold it against its checksums, forget old ones;
- `files`: what lies beside the store and belongs to it, customers' files and Prefect's database.

docs/decisions/0026 says why it is made like this.
"""
