"""Data: sets of images in folders and zips."""
