#!/usr/bin/env bash
# One audit of BASE...HEAD, written to REPORT in every format; used by action.yml.
# Needs: AUDITOR BASE HEAD REPOSITORY REPORT FAIL_ON, and POLICY, which may be empty.
set -uo pipefail

flags=(--repo "$REPOSITORY" --base "$BASE" --at "$HEAD" --format github)
if [ -n "$POLICY" ]; then flags+=(--policy "$POLICY"); fi
for name in review.md report.html audit.json audit.sarif; do flags+=(--output "$REPORT/$name"); done

"$AUDITOR" audit "${flags[@]}"
status=$?

case $status in
  0) validity=valid ;;
  1) validity=invalid ;;
  3) validity=undecided ;;
  *) exit "$status" ;;
esac
if [ ! -s "$REPORT/audit.json" ]; then validity=none; fi
{
  echo "validity=$validity"
  echo "report=$REPORT"
} >> "$GITHUB_OUTPUT"
# A summary may have one mebibyte.
head -c 1000000 "$REPORT/review.md" >> "$GITHUB_STEP_SUMMARY"

case $FAIL_ON in
  never) exit 0 ;;
  undecided) exit "$status" ;;
  *) if [ "$status" -eq 1 ]; then exit 1; fi ;;
esac
