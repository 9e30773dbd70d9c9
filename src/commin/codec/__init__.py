"""Codecs: pictures to complex symbols and back."""
