# tidy.awk - house rules a formatter cannot see.  Prints file:line: why.
# usage: awk -f tools/tidy.awk $(find src cuda tests -name '*.[ch]' -o -name '*.cu')
FNR == 1 && $0 !~ /^\/\* [a-z0-9_]+\.(c|h|cu|cuh) - / { say("first line must be '/* name.c - what lives here'") }
# bytes that continue a UTF-8 character are not columns (run under LC_ALL=C)
{ columns = $0; gsub(/[\200-\277]/, "", columns) }
length(columns) > 100 { say("line is longer than 100 columns") }
/FIXME|(^|[^A-Z])XXX([^A-Z]|$)/ { say("FIXME does not reach main; open an issue and write TODO(#123)") }
/[^a-z_](strcpy|strcat|sprintf|vsprintf|strtok|atoi|atof|gets|alloca|system|localtime|gmtime|rand)\(/ {
    say("banned call; see CONTRIBUTING.md for the replacement") }
/[^a-z_]getenv\(/ && FILENAME !~ /^src\/app\/config/ && FILENAME ~ /^src/ { say("environment is read in src/app/config*.c only") }
/[^a-z_](malloc|calloc|realloc|free)\(/ && FILENAME ~ /^src\// && FILENAME !~ /^src\/base\// { say("allocate through base/alloc.h") }
/[^a-z_](open|read|write|close|mmap|munmap|poll|clock_gettime|nanosleep|getrandom|eventfd|rename|unlink)\(/ && FILENAME ~ /^src\// && FILENAME !~ /^src\/base\/os\.c/ && $0 !~ /^[ ]*(\/\*|\*)|->(open|read|write|close|poll)\(|\*(open|read|write|close|poll)\)/ { say("system calls go through base/os.h") }
/[^a-z_]assert\(|#include <assert\.h>/ && FILENAME ~ /^src\// { say("use ASSERT/DASSERT/XASSERT from base/assert.h") }
/[^a-z_](exit|abort)\(/ && FILENAME ~ /^src\// && FILENAME !~ /^src\/(main|base)/ { say("libraries return errors; only main exits") }
/[^a-z_]f?printf\(/ && FILENAME ~ /^src\// && FILENAME !~ /^src\/(main|base|app)/ { say("log through base/log.h") }
function say(why) { print FILENAME ":" FNR ": " why > "/dev/stderr"; bad = 1 }
END { exit bad }
