"""The sandbox, the probes that run in it, and their witnesses."""
