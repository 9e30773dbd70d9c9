"""Metrics: pixel ones on 8-bit pictures, LPIPS, and distances between sets of pictures."""
