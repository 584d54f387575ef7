/* config_find.c - finding an option by any of its spellings, and the nearest one to a typo. */
#include <stdio.h>
#include <string.h>

#include "app/config_internal.h"
#include "base/assert.h"
#include "base/num.h"

#define EACH_OPTION(o)                         \
    const config_option *o = config_options;   \
    o < config_options + config_options_count; \
    o++

static bool has_alias(const config_option *o, str flag) {
    for (const char *p = o->aliases; *p != '\0';) {
        size_t n = strcspn(p, " ");
        if (str_eq((str){p, n}, flag)) return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

const config_option *config_find_flag(str flag, command cmd) {
    for (EACH_OPTION(o)) {
        if (!config_option_is_for(o, cmd)) continue;
        if (str_eq_c(flag, o->flag) || has_alias(o, flag)) return o;
    }
    return NULL;
}

const config_option *config_find_name(str name) {
    for (EACH_OPTION(o))
        if (str_eq_c(name, o->name)) return o;
    return NULL;
}

const config_option *config_find_env(str variable, command cmd) {
    const config_option *found = NULL;
    for (EACH_OPTION(o)) {
        char name[CONFIG_ENV_BYTES];
        if (!config_option_in_env(o)) continue;
        config_env_name(o, name);
        if (!str_eq_c(variable, name)) continue;
        if (config_option_is_for(o, cmd)) return o;
        found = o;
    }
    return found;
}

bool config_is_group(str path) {
    for (EACH_OPTION(o)) {
        str name = str_of(o->name);
        if (config_option_in_file(o) && str_starts(name, path) && name.n > path.n &&
            name.p[path.n] == '.')
            return true;
    }
    return false;
}

/* --- the nearest spelling -------------------------------------------------------------- */

enum { SPELLING_BYTES = 48, FAR = 1000 };

/* Insertions, deletions and replacements that turn a into b.  Source: Wagner & Fischer 1974,
 * with one row kept. */
static uint32_t distance(str a, str b) {
    uint32_t row[SPELLING_BYTES + 1];
    if (a.n > SPELLING_BYTES || b.n > SPELLING_BYTES) return FAR;
    for (uint32_t j = 0; j <= b.n; j++) row[j] = j;
    for (uint32_t i = 1; i <= a.n; i++) {
        uint32_t diagonal = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= b.n; j++) {
            uint32_t replaced = diagonal + (a.p[i - 1] != b.p[j - 1]);
            diagonal = row[j];
            row[j] = num_min_u32(replaced, num_min_u32(row[j], row[j - 1]) + 1);
        }
    }
    return row[b.n];
}

/* The option as it is spelled there; false when it cannot stand there. */
static bool spell(char out[SPELLING_BYTES], const config_option *o, config_spelling spelling,
                  command cmd) {
    switch (spelling) {
    case SPELLED_FLAG:
        (void)snprintf(out, SPELLING_BYTES, "--%s", o->flag);
        return config_option_is_for(o, cmd);
    case SPELLED_NAME:
        (void)snprintf(out, SPELLING_BYTES, "%s", o->name);
        return config_option_in_file(o);
    case SPELLED_ENV:
        config_env_name(o, out);
        return config_option_in_env(o);
    }
    return false;
}

void config_hint(char out[CONFIG_HINT_BYTES], str wrong, config_spelling spelling, command cmd) {
    char best[SPELLING_BYTES] = "";
    uint32_t nearest = (uint32_t)(wrong.n / 3) + 1; /* what is further off is no typo */
    for (EACH_OPTION(o)) {
        char name[SPELLING_BYTES];
        if (!spell(name, o, spelling, cmd)) continue;
        uint32_t d = distance(wrong, str_of(name));
        if (d > nearest || (d == nearest && best[0] != '\0')) continue;
        nearest = d;
        memcpy(best, name, sizeof best);
    }
    out[0] = '\0';
    if (best[0] != '\0') (void)snprintf(out, CONFIG_HINT_BYTES, "; did you mean '%s'?", best);
}
