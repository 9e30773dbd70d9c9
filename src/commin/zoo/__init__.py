"""The zoo: cards, weights, and `load`, which puts a `commin.link.Link` together."""
