"""Playbooks: procedures that keyholders sign, and that devices verify before they run them."""
