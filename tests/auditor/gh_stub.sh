#!/bin/sh
# Stands in for GitHub's command line: notes its arguments, and names the last comment, if any.
echo "$*" >> "$CALLS"
case "$*" in *--paginate*) [ -z "${LAST:-}" ] || echo "$LAST" ;; esac
