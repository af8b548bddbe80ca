"""The index of a script: names, calls, def-use, run configuration, reachability."""
