"""Encoders: a standardized spectrogram becomes patches that can be compared by cosine."""
