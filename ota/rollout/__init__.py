"""Rollouts: spec, plan, gate, states, engine, journal."""
