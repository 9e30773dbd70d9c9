"""Separate source and channel coding: image files or transform coefficients as bits, bits over k symbols."""
