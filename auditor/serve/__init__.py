"""Audits in a browser, on one's own machine: read-only, and static unless started otherwise."""
