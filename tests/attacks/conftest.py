"""The ground on which attacks put their plants."""

from simulators.grounds import ground

__all__ = ["ground"]
