"""Evaluation: splits that keep patients apart, scores with intervals, protocols, and whole comparisons."""
