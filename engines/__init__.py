"""How sound is judged: features, encoders, engines, calibration, routing, metrics, toy sounds.

Pure: arrays in, arrays out; no Prefect, no store, no network. Works from a notebook.
"""
