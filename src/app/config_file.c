/* config_file.c - the option file: YAML, and JSON as the part of YAML it is.
 *
 * libyaml gives events; nested maps make dotted names ("server:" over "port:" is
 * "server.port", which may also be written as it is).  Every key must lead to an option, so
 * maps nest no deeper than the names in the table.  Refused is what no option file needs and
 * what has surprised readers of others: anchors and aliases, tags, keys given twice, a second
 * document. */
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "app/config_internal.h"
#include "base/assert.h"
#include "base/os.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    PATH_BYTES = 128,
    GROUPS_MAX = 32 /* maps met so far; each name of a group is met once */
};

typedef struct reader {
    yaml_parser_t yaml;
    yaml_event_t event; /* the current one */
    bool has_event;
    config *c;
    const char *file;                    /* its name in errors */
    size_t given_at[CONFIG_OPTIONS_MAX]; /* line of each option met, 0: not yet */
    char groups[GROUPS_MAX][PATH_BYTES];
    uint32_t groups_count;
} reader;

/* --- events ---------------------------------------------------------------------------- */

static size_t line_of(const reader *r) { return r->event.start_mark.line + 1; }

static status refuse(const reader *r, const char *why, error *err) {
    return error_set(err, ERR_FORMAT, "%s:%zu: %s", r->file, line_of(r), why);
}

static void drop_event(reader *r) {
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = false;
}

static status check_plain(const reader *r, error *err) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        return refuse(r, "aliases are not supported", err);
    case YAML_SCALAR_EVENT:
        anchor = r->event.data.scalar.anchor;
        tag = r->event.data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->event.data.sequence_start.anchor;
        tag = r->event.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = r->event.data.mapping_start.anchor;
        tag = r->event.data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (anchor != NULL) return refuse(r, "anchors are not supported", err);
    if (tag != NULL) return refuse(r, "tags are not supported", err);
    return OK;
}

static status next_event(reader *r, error *err) {
    drop_event(r);
    if (!yaml_parser_parse(&r->yaml, &r->event)) {
        const char *why = r->yaml.problem != NULL ? r->yaml.problem : "no memory";
        return error_set(err, ERR_FORMAT, "%s:%zu: %s", r->file, r->yaml.problem_mark.line + 1,
                         why);
    }
    r->has_event = true;
    return check_plain(r, err);
}

static str scalar(const reader *r) {
    ASSERT(r->event.type == YAML_SCALAR_EVENT);
    return (str){(const char *)r->event.data.scalar.value, r->event.data.scalar.length};
}

/* `key:` with nothing behind it, or null: as if it were not there. */
static bool is_null(const reader *r) {
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (r->event.type != YAML_SCALAR_EVENT) return false;
    if (r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (str_eq_c(scalar(r), words[i])) return true;
    return false;
}

/* --- values ---------------------------------------------------------------------------- */

/* One scalar for an option; its message gets file, line and name in front. */
static status take_scalar(reader *r, const config_option *o, error *err) {
    char label[PATH_BYTES + 64];
    error e = {0};
    if (r->event.type != YAML_SCALAR_EVENT)
        return error_set(err, ERR_FORMAT, "%s:%zu: %s: want one value, found a %s", r->file,
                         line_of(r), o->name,
                         r->event.type == YAML_MAPPING_START_EVENT ? "map" : "list");
    (void)snprintf(label, sizeof label, "%.100s:%zu: %s", r->file, line_of(r), o->name);
    status st = config_value_set(r->c, o, scalar(r), CONFIG_SOURCE_FILE, label, &e);
    if (st == OK) return OK;
    return error_set(err, st == ERR_INVALID ? ERR_FORMAT : st, "%s", e.msg);
}

/* The current event begins the value of an option. */
static status take_option(reader *r, const config_option *o, error *err) {
    bool list = o->type == CONFIG_LIST || o->type == CONFIG_NUMBERS;
    if (is_null(r)) return OK;
    if (!list || r->event.type != YAML_SEQUENCE_START_EVENT) return take_scalar(r, o, err);
    for (;;) {
        TRY(next_event(r, err));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) return OK;
        TRY(take_scalar(r, o, err));
    }
}

/* --- maps ------------------------------------------------------------------------------ */

static status unknown_key(const reader *r, const char *path, error *err) {
    char hint[CONFIG_HINT_BYTES];
    const config_option *o = config_find_name(str_of(path));
    if (o != NULL)
        return error_set(err, ERR_FORMAT, "%s:%zu: '%s' cannot be set in a file", r->file,
                         line_of(r), path);
    config_hint(hint, str_of(path), SPELLED_NAME, r->c->cmd);
    return error_set(err, ERR_FORMAT, "%s:%zu: unknown option '%s'%s", r->file, line_of(r), path,
                     hint);
}

static status twice(const reader *r, const char *path, error *err) {
    return error_set(err, ERR_FORMAT, "%s:%zu: '%s' is given twice", r->file, line_of(r), path);
}

static status note_group(reader *r, const char *path, error *err) {
    for (uint32_t i = 0; i < r->groups_count; i++)
        if (strcmp(r->groups[i], path) == 0) return twice(r, path, err);
    ASSERT(r->groups_count < GROUPS_MAX);
    (void)snprintf(r->groups[r->groups_count++], PATH_BYTES, "%s", path);
    return OK;
}

static status note_option(reader *r, const config_option *o, error *err) {
    size_t *at = &r->given_at[config_option_index(o)];
    if (*at != 0) return twice(r, o->name, err);
    *at = line_of(r);
    return OK;
}

/* The path of the key that the current event is, below the map `path`. */
static status key_path(const reader *r, const char *path, char out[PATH_BYTES], error *err) {
    if (r->event.type != YAML_SCALAR_EVENT) return refuse(r, "a key must be a name", err);
    str key = scalar(r);
    if (key.n == 0 || memchr(key.p, '\0', key.n) != NULL)
        return refuse(r, "a key must be a name", err);
    int n = snprintf(out, PATH_BYTES, "%s%s%.*s", path, path[0] != '\0' ? "." : "", STR(key));
    if (n < 0 || n >= PATH_BYTES || key.n >= PATH_BYTES)
        return refuse(r, "a key is longer than any option's name", err);
    return OK;
}

/* The current event begins the map called `path` ("" at the top); it ends with its last one. */
static status take_map(reader *r, const char *path, error *err) {
    for (;;) {
        char below[PATH_BYTES];
        TRY(next_event(r, err));
        if (r->event.type == YAML_MAPPING_END_EVENT) return OK;
        TRY(key_path(r, path, below, err));
        const config_option *o = config_find_name(str_of(below));
        if (o != NULL && config_option_in_file(o)) {
            TRY(note_option(r, o, err));
            TRY(next_event(r, err));
            TRY(take_option(r, o, err));
            continue;
        }
        if (!config_is_group(str_of(below))) return unknown_key(r, below, err);
        TRY(note_group(r, below, err));
        TRY(next_event(r, err));
        if (is_null(r)) continue;
        if (r->event.type != YAML_MAPPING_START_EVENT)
            return error_set(err, ERR_FORMAT, "%s:%zu: '%s' is a group of options, want a map",
                             r->file, line_of(r), below);
        TRY(take_map(r, below, err));
    }
}

/* --- the file -------------------------------------------------------------------------- */

static status take_file(reader *r, error *err) {
    TRY(next_event(r, err)); /* the stream's start */
    TRY(next_event(r, err));
    if (r->event.type == YAML_STREAM_END_EVENT) return OK; /* only comments */
    TRY(next_event(r, err));
    if (r->event.type == YAML_MAPPING_START_EVENT)
        TRY(take_map(r, "", err));
    else if (!is_null(r))
        return refuse(r, "want a map of options", err);
    TRY(next_event(r, err)); /* the document's end */
    TRY(next_event(r, err));
    if (r->event.type != YAML_STREAM_END_EVENT) return refuse(r, "a second document begins", err);
    return OK;
}

status config_file_parse(config *c, str text, const char *file, error *err) {
    reader r = {.c = c, .file = file};
    if (text.n > FILE_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "%s: %zu bytes, at most %d are read", file, text.n,
                         FILE_BYTES_MAX);
    if (!yaml_parser_initialize(&r.yaml))
        return error_set(err, ERR_NOMEM, "%s: no memory to parse it", file);
    yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.yaml, (const unsigned char *)(text.n != 0 ? text.p : ""),
                                 text.n);
    status st = take_file(&r, err);
    drop_event(&r);
    yaml_parser_delete(&r.yaml);
    return st;
}

static status read_file(int fd, const char *path, buf *text, error *err) {
    size_t got = 0;
    void *at = buf_reserve(text, FILE_BYTES_MAX + 1);
    if (at == NULL) return error_set(err, ERR_NOMEM, "%s: no memory to read it", path);
    TRY(os_read_full(fd, at, FILE_BYTES_MAX + 1, &got, err));
    text->n += got;
    return OK;
}

status config_file_load(config *c, const char *path, error *err) {
    int fd = -1;
    buf text;
    TRY(os_open_read(path, &fd, err));
    buf_init(&text, FILE_BYTES_MAX + 1);
    status st = read_file(fd, path, &text, err);
    if (st == OK) st = config_file_parse(c, buf_view(&text), path, err);
    buf_deinit(&text);
    os_close(fd);
    return st;
}
