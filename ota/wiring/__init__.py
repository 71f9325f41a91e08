"""Settings -> adapters -> use cases: the only room that knows both sides."""
