/* config_doc.c - the option table as text: --help, docs/config.md, gantry.example.yaml, and
 * the values in force. */
#include <stdio.h>
#include <string.h>

#include "app/config_internal.h"
#include "base/assert.h"
#include "json/write.h"

#define EACH_OPTION(o)                         \
    const config_option *o = config_options;   \
    o < config_options + config_options_count; \
    o++

enum { WORDS_BYTES = 128 };

/* "require, prefer, off" */
static const char *choice_words(const config_option *o, char out[WORDS_BYTES]) {
    size_t n = 0;
    str name = {0};
    out[0] = '\0';
    for (uint32_t i = 0; config_choice_name(o, i, &name) && n < WORDS_BYTES; i++)
        n += (size_t)snprintf(out + n, WORDS_BYTES - n, "%s%.*s", i != 0 ? ", " : "", STR(name));
    return out;
}

/* --- --help ---------------------------------------------------------------------------- */

/* "  -m, --model, --model-path [NAME=]MODEL" */
static void put_spellings(buf *out, const config_option *o) {
    size_t start = out->n;
    buf_put_str(out, S("  "));
    for (const char *p = o->aliases; *p != '\0';) { /* one-letter flags first */
        size_t n = strcspn(p, " ");
        if (n == 1) buf_printf(out, "-%c, ", *p);
        p += n + (p[n] == ' ');
    }
    if (out->n == start + 2) buf_put_str(out, S("    "));
    buf_printf(out, "--%s", o->flag);
    for (const char *p = o->aliases; *p != '\0';) {
        size_t n = strcspn(p, " ");
        if (n > 1) buf_printf(out, ", --%.*s", (int)n, p);
        p += n + (p[n] == ' ');
    }
    if (o->operand != NULL) buf_printf(out, " %s", o->operand);
}

static void put_help_line(buf *out, const config_option *o) {
    enum { COLUMN = 38 };
    char words[WORDS_BYTES];
    size_t start = out->n;
    put_spellings(out, o);
    if (out->n - start >= COLUMN) {
        buf_put_char(out, '\n');
        start = out->n;
    }
    while (!out->failed && out->n - start < COLUMN) buf_put_char(out, ' ');
    buf_put_str(out, str_of(o->help));
    if (o->type == CONFIG_CHOICE) buf_printf(out, ": %s", choice_words(o, words));
    bool drawn = o->type == CONFIG_U64; /* a seed */
    if (o->type != CONFIG_BOOL && !drawn && o->def[0] != '\0') buf_printf(out, " [%s]", o->def);
    buf_put_char(out, '\n');
}

void config_help(command cmd, buf *out) {
    static const struct {
        const char *name, *args, *help;
    } commands[] = {
#define COMMAND_TEXTS(id, name, args, help) {name, args, help},
        COMMANDS(COMMAND_TEXTS)
#undef COMMAND_TEXTS
    };
    ASSERT((unsigned)cmd < COMMAND_COUNT);
    const char *args = commands[cmd].args;
    buf_printf(out, "usage: gantry %s%s%s [options]\n\n%s\n\noptions:\n", commands[cmd].name,
               args[0] != '\0' ? " " : "", args, commands[cmd].help);
    bool env = false;
    for (EACH_OPTION(o)) {
        if (!config_option_is_for(o, cmd)) continue;
        put_help_line(out, o);
        env = env || config_option_in_env(o);
    }
    if (env)
        buf_put_str(out, S("\nMost options can also stand in the environment (--log-level as "
                           "GANTRY_LOG_LEVEL)\nand in the file that --config names; flags win "
                           "over the environment, which wins over the file.\n"));
}

/* --- docs/config.md -------------------------------------------------------------------- */

/* A cell of a table may not contain a bare '|'. */
static void put_cell(buf *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '|') buf_put_char(out, '\\');
        buf_put_char(out, *text);
    }
}

static void put_range(buf *out, const config_option *o) {
    char words[WORDS_BYTES];
    switch (o->type) {
    case CONFIG_BOOL:
        buf_put_str(out, S("true, false"));
        return;
    case CONFIG_U64:
        buf_put_str(out, S("0 to 2^64 - 1"));
        return;
    case CONFIG_F32:
        buf_printf(out, "%g to %g", o->min, o->max);
        return;
    case CONFIG_U32:
        buf_printf(out, "%.0f to %.0f%s%s", o->min, o->max, o->choices != NULL ? ", or " : "",
                   o->choices != NULL ? o->choices : "");
        return;
    case CONFIG_NUMBERS:
        buf_printf(out, "numbers, %.0f to %.0f", o->min, o->max);
        return;
    case CONFIG_BYTES:
        buf_printf(out, "size, %.0f to %.0f bytes%s%s", o->min, o->max,
                   o->choices != NULL ? ", or " : "", o->choices != NULL ? o->choices : "");
        return;
    case CONFIG_MS:
        buf_printf(out, "time, %.0f to %.0f ms", o->min, o->max);
        return;
    case CONFIG_CHOICE:
        buf_put_str(out, str_of(choice_words(o, words)));
        return;
    case CONFIG_STR:
        buf_put_str(out, S("text"));
        return;
    case CONFIG_LIST:
        buf_printf(out, "list, at most %d", CONFIG_LIST_MAX);
        return;
    }
}

static void put_commands(buf *out, const config_option *o) {
    const char *comma = "";
    for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
        if (!config_option_is_for(o, (command)i)) continue;
        buf_printf(out, "%s%s", comma, command_name((command)i));
        comma = ", ";
    }
}

static void put_markdown_row(buf *out, const config_option *o) {
    char env[CONFIG_ENV_BYTES];
    config_env_name(o, env);
    buf_put_str(out, S("| "));
    if (config_option_in_file(o)) buf_printf(out, "`%s`", o->name);
    buf_put_str(out, S(" | `"));
    size_t start = out->n;
    put_spellings(out, o);
    if (!out->failed) { /* without the indentation of --help */
        size_t blanks = strspn(out->p + start, " ");
        memmove(out->p + start, out->p + start + blanks, out->n - start - blanks);
        out->n -= blanks;
    }
    buf_put_str(out, S("` | "));
    if (config_option_in_env(o)) buf_printf(out, "`%s`", env);
    buf_put_str(out, S(" | "));
    put_range(out, o);
    buf_put_str(out, S(" | "));
    if (o->def[0] != '\0') buf_printf(out, "`%s`", o->def);
    buf_put_str(out, S(" | "));
    put_commands(out, o);
    buf_put_str(out, S(" | "));
    put_cell(out, o->help);
    buf_put_str(out, S(" |\n"));
}

static void put_markdown_table(buf *out, bool in_file) {
    buf_put_str(out,
                S("| in the file | flags | variable | values | default | commands | meaning |\n"
                  "|---|---|---|---|---|---|---|\n"));
    for (EACH_OPTION(o))
        if (config_option_in_file(o) == in_file) put_markdown_row(out, o);
}

void config_doc_markdown(buf *out) {
    buf_put_str(
        out,
        S("# Options\n\n"
          "Made from the table in `src/app/config_table.c` by `make docs`; do not edit.\n\n"
          "A value comes from a flag, else from the environment, else from the file that "
          "`--config` names (YAML or JSON), else it is the default. `--flag value` and "
          "`--flag=value` are the same; `--` ends the options. Sizes are bytes or have a unit "
          "(`64KiB`, `8GiB`, `1.5GB`), times are milliseconds or have one (`250ms`, `30s`, `5m`, "
          "`1h`). A list is a flag repeated, a variable with commas, or a list in the file.\n\n"
          "In the file, `server.port` is `port` in the map `server`. Unknown names, values out "
          "of range, keys given twice, anchors, aliases and tags are errors that name the line. "
          "An unknown `GANTRY_*` variable is logged. Those that Kubernetes adds for a Service "
          "called `gantry` (`GANTRY_SERVICE_*`, `GANTRY_PORT_*`, `GANTRY_PORT=tcp://...`) are "
          "not options.\n\n## In the file, in the environment, and as flags\n\n"));
    put_markdown_table(out, true);
    buf_put_str(out, S("\n## Not in the file\n\n"));
    put_markdown_table(out, false);
}

/* --- gantry.example.yaml --------------------------------------------------------------- */

static void put_example_row(buf *out, const config_option *o, const char *indent, const char *key) {
    char words[WORDS_BYTES];
    buf_printf(out, "%s# %s", indent, o->help);
    if (o->type == CONFIG_CHOICE) buf_printf(out, ": %s", choice_words(o, words));
    buf_printf(out, "\n%s#%s: %s\n", indent, key,
               o->def[0] != '\0'        ? o->def
               : o->type == CONFIG_LIST ? "[]"
                                        : "null");
}

void config_doc_example(buf *out) {
    str group = S("");
    buf_put_str(out, S("# Options of gantry at their defaults: `gantry serve --config FILE`.\n"
                       "# Made from src/app/config_table.c by `make docs`.\n\n"));
    for (EACH_OPTION(o)) {
        if (!config_option_in_file(o)) continue;
        const char *dot = strchr(o->name, '.');
        str mine = {o->name, dot != NULL ? (size_t)(dot - o->name) : 0};
        if (!str_eq(mine, group)) buf_printf(out, "\n%.*s:\n", STR(mine));
        group = mine;
        put_example_row(out, o, dot != NULL ? "  " : "", dot != NULL ? dot + 1 : o->name);
    }
}

/* --- the values in force --------------------------------------------------------------- */

static void write_list(json_writer *w, const config_list *list) {
    json_begin_array(w);
    for (uint32_t i = 0; i < list->count; i++) json_str(w, list->items[i]);
    json_end_array(w);
}

static void write_numbers(json_writer *w, const config_numbers *numbers) {
    json_begin_array(w);
    for (uint32_t i = 0; i < numbers->count; i++) json_uint(w, numbers->items[i]);
    json_end_array(w);
}

static void write_value(json_writer *w, const config *c, const config_option *o) {
    const void *field = (const char *)c + o->offset;
    uint32_t u32 = 0;
    uint64_t u64 = 0;
    str name = {0};
    switch (o->type) {
    case CONFIG_BOOL:
        json_bool(w, *(const bool *)field);
        return;
    case CONFIG_U32:
    case CONFIG_MS:
        memcpy(&u32, field, sizeof u32);
        json_uint(w, u32);
        return;
    case CONFIG_U64:
    case CONFIG_BYTES:
        memcpy(&u64, field, sizeof u64);
        if (o->type == CONFIG_BYTES && u64 == CONFIG_BYTES_AUTO)
            json_str(w, str_of(o->choices));
        else
            json_uint(w, u64);
        return;
    case CONFIG_F32:
        json_f32(w, *(const float *)field);
        return;
    case CONFIG_CHOICE:
        memcpy(&u32, field, sizeof u32);
        (void)config_choice_name(o, u32, &name);
        json_str(w, name);
        return;
    case CONFIG_STR:
        json_str(w, *(const str *)field);
        return;
    case CONFIG_LIST:
        write_list(w, field);
        return;
    case CONFIG_NUMBERS:
        write_numbers(w, field);
        return;
    }
}

void config_dump(const config *c, buf *out) {
    static const char *const sources[] = {"default", "file", "env", "flag"};
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    for (EACH_OPTION(o)) {
        if (!config_option_is_for(o, c->cmd) || !config_option_in_env(o)) continue;
        json_kv_object(&w, o->name);
        if ((o->bits & OPTION_SECRET) != 0) {
            json_kv_bool(&w, "is_set", c->sources[config_option_index(o)] != 0);
        } else {
            json_key(&w, S("value"));
            write_value(&w, c, o);
        }
        json_kv_str(&w, "source", str_of(sources[c->sources[config_option_index(o)]]));
        json_end_object(&w);
    }
    json_end_object(&w);
}
