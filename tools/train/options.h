/* options.h - options of a command: one table for flags, the configuration file and --help.
 *
 * `--name value` or `--name=value`; `--config FILE` holds lines `name: value`, with `#` comments,
 * and what stands on the command line wins.  Values land in a struct of the caller's through the
 * table's offsets.  Texts are copied into the set.  Owner: whoever holds the set. */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H

#include "base/arena.h"
#include "base/error.h"

typedef enum option_type {
    OPTION_TEXT,   /* const char *, never NULL */
    OPTION_COUNT,  /* uint32_t */
    OPTION_SEED,   /* uint64_t */
    OPTION_NUMBER, /* float */
    OPTION_SWITCH, /* bool; the flag alone means true */
} option_type;

typedef struct option_row {
    const char *name;
    option_type type;
    size_t at; /* in the caller's struct */
    double min, max;
    const char *fallback; /* "": none; a text that is wanted has NULL */
    const char *help;
} option_row;

typedef struct option_set {
    const option_row *rows;
    uint32_t count;
    void *values; /* the caller's struct */
    arena memory;
    bool help; /* --help was given */
} option_set;

/* Fills `values` with the fallbacks. */
void options_init(option_set *o, const option_row *rows, uint32_t count, void *values);
void options_deinit(option_set *o);

/* argv without program and command.  ERR_INVALID, its message beginning with "usage: ", for an
 * option that is not there, a value that does not fit, a wanted one that is missing. */
NODISCARD status options_parse(option_set *o, int argc, char **argv, error *err);

/* The table as text on stdout. */
void options_help(const option_set *o, const char *command);

#endif
