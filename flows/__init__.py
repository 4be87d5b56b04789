"""The order of steps: one flow a stage, and `onboard` composed of them."""
