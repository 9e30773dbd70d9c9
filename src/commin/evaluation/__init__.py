"""Evaluation: records, reference lines, figures."""
