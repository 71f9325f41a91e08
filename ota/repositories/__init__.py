"""Use cases of both repositories: releases, changes, publishing, refreshing, recovery, removal."""
