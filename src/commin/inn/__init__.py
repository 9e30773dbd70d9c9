"""The invertible network that mimics the link: its coarse part is what DeepJSCC would make of a picture."""
