"""Playbooks on the operator's side: written, signed, published, rendered for machines without an agent."""
