"""Secure OTA updates and edge management: the operator's side and the device's."""
