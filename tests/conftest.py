"""Settings of all tests."""

from hypothesis import settings

# A shared machine may stop for a moment: how long an example takes is no law of ours.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
