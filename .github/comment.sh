#!/usr/bin/env bash
# Writes REPORT/review.md as this action's one comment on pull request PULL, over the last one if any.
set -euo pipefail

mark='<!-- parameter-golf-audit -->'
body="$REPORT/comment.md"
# A comment may have 65,536 characters; what is cut stands in the job's summary.
{ echo "$mark"; head -c 60000 "$REPORT/review.md" | iconv -c -f utf-8 -t utf-8; } > "$body"

comments="repos/$GITHUB_REPOSITORY/issues/$PULL/comments"
last=$(gh api --paginate "$comments" \
  --jq ".[] | select(.user.type == \"Bot\" and (.body | startswith(\"$mark\"))) | .id" | tail -n 1)
if [ -n "$last" ]; then
  gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$last" --field body=@"$body" --silent
else
  gh api --method POST "$comments" --field body=@"$body" --silent
fi
