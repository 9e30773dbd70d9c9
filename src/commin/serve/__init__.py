"""The page for one's own photo, and the face finder."""
