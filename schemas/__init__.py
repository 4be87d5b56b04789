"""What things are: settings, errors, problems, references and the table contracts. Imports nothing of ours.

Light on purpose: `schemas.metadata` alone needs pandas and pandera, so it is imported where it is used.
"""
