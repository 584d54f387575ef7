/* options.c - see options.h. */
#include "train/options.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "train/files.h"

enum { TEXT_BYTES_MAX = 1 << 20, NAME_COLUMNS = 20 };

/* --- one value --------------------------------------------------------------------------- */

static const option_row *find(const option_set *o, str name) {
    for (uint32_t i = 0; i < o->count; i++)
        if (str_eq_c(name, o->rows[i].name)) return &o->rows[i];
    return NULL;
}

static void *place_of(const option_set *o, const option_row *r) {
    return (char *)o->values + r->at;
}

static status out_of_range(const option_row *r, str text, error *err) {
    return error_set(err, ERR_INVALID, "usage: --%s '%.*s' is not %g to %g", r->name, STR(text),
                     r->min, r->max);
}

static status set_text(option_set *o, const option_row *r, str text, error *err) {
    const str kept = arena_dup(&o->memory, text);
    if (kept.p == NULL) return error_set(err, ERR_NOMEM, "train: no memory for --%s", r->name);
    *(const char **)place_of(o, r) = kept.p;
    return OK;
}

static status set_switch(const option_set *o, const option_row *r, str text, error *err) {
    const bool yes = text.n == 0 || str_eq_c(text, "true");
    if (!yes && !str_eq_c(text, "false"))
        return error_set(err, ERR_INVALID, "usage: --%s '%.*s' is not true or false", r->name,
                         STR(text));
    *(bool *)place_of(o, r) = yes;
    return OK;
}

static status set(option_set *o, const option_row *r, str text, error *err) {
    uint64_t count = 0;
    double number = 0;
    switch (r->type) {
    case OPTION_TEXT:
        return set_text(o, r, text, err);
    case OPTION_SWITCH:
        return set_switch(o, r, text, err);
    case OPTION_COUNT:
        if (!str_to_u64(text, &count) || (double)count < r->min || (double)count > r->max)
            return out_of_range(r, text, err);
        *(uint32_t *)place_of(o, r) = (uint32_t)count;
        return OK;
    case OPTION_SEED:
        if (!str_to_u64(text, &count)) return out_of_range(r, text, err);
        *(uint64_t *)place_of(o, r) = count;
        return OK;
    case OPTION_NUMBER:
        if (!str_to_f64(text, &number) || number < r->min || number > r->max)
            return out_of_range(r, text, err);
        *(float *)place_of(o, r) = (float)number;
        return OK;
    }
    return error_set(err, ERR_INTERNAL, "train: --%s has no type", r->name);
}

/* --- the configuration file -------------------------------------------------------------- */

static str trim(str s) {
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) s = str_skip(s, 1);
    while (s.n > 0 && strchr(" \t\r", s.p[s.n - 1]) != NULL) s.n--;
    return s;
}

static status set_line(option_set *o, str line, uint32_t number, const char *path, error *err) {
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == NULL)
        return error_set(err, ERR_INVALID, "usage: '%s' line %u is no 'name: value'", path, number);
    const str name = trim((str){line.p, (size_t)(colon - line.p)});
    const option_row *r = find(o, name);
    if (r == NULL)
        return error_set(err, ERR_INVALID, "usage: '%s' line %u: no option '%.*s'", path, number,
                         STR(name));
    return set(o, r, trim(str_skip(line, (size_t)(colon - line.p) + 1)), err);
}

static status read_lines(option_set *o, str text, const char *path, error *err) {
    for (uint32_t number = 1; text.n > 0; number++) {
        const char *end = memchr(text.p, '\n', text.n);
        str line = {text.p, end != NULL ? (size_t)(end - text.p) : text.n};
        text = str_skip(text, line.n + (end != NULL));
        line = trim(line);
        if (line.n == 0 || line.p[0] == '#') continue;
        TRY(set_line(o, line, number, path, err));
    }
    return OK;
}

static status read_config(option_set *o, const char *path, error *err) {
    buf text;
    buf_init(&text, TEXT_BYTES_MAX);
    status st = file_read(path, &text, err);
    if (st == OK) st = read_lines(o, buf_view(&text), path, err);
    buf_deinit(&text);
    return st;
}

/* --- the command line -------------------------------------------------------------------- */

/* One argument taken apart; value.p NULL: none is there. */
typedef struct argument {
    str name, value;
} argument;

static status take(int argc, char **argv, int *at, const option_set *o, argument *out, error *err) {
    const str text = str_of(argv[(*at)++]);
    if (str_eq_c(text, "-o") && *at < argc) {
        *out = (argument){S("out"), str_of(argv[(*at)++])};
        return OK;
    }
    if (!str_starts(text, S("--")))
        return error_set(err, ERR_INVALID, "usage: '%.*s' is no option", STR(text));
    const char *equals = memchr(text.p, '=', text.n);
    *out = (argument){.name = str_skip(text, 2)};
    if (equals != NULL) {
        out->name.n = (size_t)(equals - out->name.p);
        out->value = str_of(equals + 1);
        return OK;
    }
    const option_row *r = find(o, out->name);
    if (str_eq_c(out->name, "help") || (r != NULL && r->type == OPTION_SWITCH)) return OK;
    if (*at == argc)
        return error_set(err, ERR_INVALID, "usage: --%.*s wants a value", STR(out->name));
    out->value = str_of(argv[(*at)++]);
    return OK;
}

/* Files first, whatever the order: then flags win. */
static status go_through(option_set *o, int argc, char **argv, bool files, error *err) {
    for (int i = 0; i < argc;) {
        argument a = {0};
        TRY(take(argc, argv, &i, o, &a, err));
        if (str_eq_c(a.name, "help")) {
            o->help = true;
        } else if (str_eq_c(a.name, "config")) {
            if (files) TRY(read_config(o, a.value.p, err));
        } else if (!files) {
            const option_row *r = find(o, a.name);
            if (r == NULL)
                return error_set(err, ERR_INVALID, "usage: no option --%.*s", STR(a.name));
            TRY(set(o, r, a.value, err));
        }
    }
    return OK;
}

status options_parse(option_set *o, int argc, char **argv, error *err) {
    TRY(go_through(o, argc, argv, true, err));
    TRY(go_through(o, argc, argv, false, err));
    if (o->help) return OK;
    for (uint32_t i = 0; i < o->count; i++) {
        const option_row *r = &o->rows[i];
        if (r->type == OPTION_TEXT && r->fallback == NULL &&
            (*(const char **)place_of(o, r))[0] == '\0')
            return error_set(err, ERR_INVALID, "usage: --%s is wanted", r->name);
    }
    return OK;
}

/* --- the set ----------------------------------------------------------------------------- */

void options_init(option_set *o, const option_row *rows, uint32_t count, void *values) {
    *o = (option_set){.rows = rows, .count = count, .values = values};
    arena_init(&o->memory, TEXT_BYTES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const option_row *r = &rows[i];
        if (r->type == OPTION_TEXT)
            *(const char **)place_of(o, r) = r->fallback != NULL ? r->fallback : "";
        else
            (void)set(o, r, str_of(r->fallback), NULL);
    }
}

void options_deinit(option_set *o) { arena_deinit(&o->memory); }

void options_help(const option_set *o, const char *command) {
    printf("usage: gantry-train %s [--config FILE] [options]\n\n", command);
    for (uint32_t i = 0; i < o->count; i++) {
        const option_row *r = &o->rows[i];
        const bool told = r->fallback != NULL && r->fallback[0] != '\0';
        printf("  --%-*s %s", NAME_COLUMNS, r->name, r->help);
        if (r->fallback == NULL)
            printf(" (wanted)\n");
        else
            printf(told && r->type != OPTION_SWITCH ? " (%s)\n" : "\n", r->fallback);
    }
}
