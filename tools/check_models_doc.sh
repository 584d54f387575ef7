#!/bin/sh
# check_models_doc.sh - every architecture of the table has a page in docs/models and a row in docs/models.md.
# A page is one whose title names it, or the table at the end of docs/models/decoder.md.
bad=0
names=$(sed -nE 's/^    \{"([a-z0-9_-]+)",.*/\1/p' src/model/arch_table.c)
[ -n "$names" ] || { echo "check_models_doc: no architecture in src/model/arch_table.c" >&2; exit 1; }
for name in $names; do
    awk -v name="$name" 'FNR == 1 {
            sub(/^# /, ""); sub(/:.*/, ""); n = split($0, title, /, */)
            for (i = 1; i <= n; i++) if (title[i] == name) found = 1
        }
        FILENAME ~ /decoder\.md$/ && index($0, "| `" name "` |") == 1 { found = 1 }
        END { exit !found }' docs/models/*.md ||
        { echo "docs/models: no page for '$name'" >&2; bad=1; }
    grep -q "^| \[\`$name\`\](" docs/models.md ||
        { echo "docs/models.md: no row for '$name': make docs-models" >&2; bad=1; }
done
exit $bad
