"""The image repository: what *may* run."""
