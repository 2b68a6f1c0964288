"""Measurements, each as a ratio against a limit in the same run. `make bench` runs them."""
