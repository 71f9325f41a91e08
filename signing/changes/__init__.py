"""A change on its way from person to person: drafted, read, signed, judged."""
