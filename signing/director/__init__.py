"""The director repositories, one per device: what it *shall* run now."""
