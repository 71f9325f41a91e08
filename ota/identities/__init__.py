"""Devices' identities at AWS IoT, from enrolment to revocation.

``csr``       what a device may ask to have certified, and whether that is what it got
``record``    what was done for a device so far, durable before the next call
``lifecycle`` the procedures: enrol, revoke, look
"""
