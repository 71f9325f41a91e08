"""The ground on which journeys put their plants."""

from simulators.grounds import ground

__all__ = ["ground"]
