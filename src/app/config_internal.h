/* config_internal.h - a row of the option table, and what the config_*.c files share. */
#ifndef APP_CONFIG_INTERNAL_H
#define APP_CONFIG_INTERNAL_H

#include "app/config.h"

typedef enum config_type {
    CONFIG_BOOL,   /* bool */
    CONFIG_U32,    /* uint32_t; where `choices` is a word, it is max */
    CONFIG_U64,    /* uint64_t */
    CONFIG_BYTES,  /* uint64_t; "8GiB"; where `choices` is a word, it is CONFIG_BYTES_AUTO */
    CONFIG_MS,     /* uint32_t; "30s", bare numbers are milliseconds */
    CONFIG_F32,    /* float */
    CONFIG_STR,    /* str; min and max are its bytes */
    CONFIG_CHOICE, /* enum in the order of `choices` */
    CONFIG_LIST,   /* config_list; the option may be repeated */
    CONFIG_NUMBERS /* config_numbers; "1,8,32" */
} config_type;

enum {
    OPTION_FLAG_ONLY = 1, /* neither in the file nor in the environment */
    OPTION_NO_FILE = 2,
    OPTION_SECRET = 4 /* the value is never printed */
};

typedef struct config_option {
    const char *name;    /* in the file; "server.port" */
    const char *flag;    /* without dashes; GANTRY_FLAG is the variable */
    const char *aliases; /* further flags, blank-separated; one letter takes one dash */
    config_type type;
    uint32_t bits;       /* OPTION_* */
    uint32_t commands;   /* bit per command that takes it */
    size_t offset;       /* of the field in struct config */
    double min, max;     /* allowed range, inclusive */
    const char *def;     /* the default, as text; "" is an empty text or list */
    const char *choices; /* "require/cuda|off": names of each value, the first one is printed */
    const char *operand; /* what --help calls the value */
    const char *help;
} config_option;

extern const config_option config_options[];
extern const uint32_t config_options_count;

uint32_t config_option_index(const config_option *o);
bool config_option_is_for(const config_option *o, command cmd);
bool config_option_in_file(const config_option *o);
bool config_option_in_env(const config_option *o);

enum { CONFIG_ENV_BYTES = 48 };
/* "GANTRY_MAX_SIZE" for the flag "max-size". */
void config_env_name(const config_option *o, char out[CONFIG_ENV_BYTES]);

/* --- finding (config_find.c) -------------------------------------------------------- */
/* By flag or alias, among the command's; NULL when there is none. */
const config_option *config_find_flag(str flag, command cmd);
const config_option *config_find_name(str name);
/* Prefers the command's own; finds those of other commands, too. */
const config_option *config_find_env(str variable, command cmd);
/* Does any name in the file start with "path."? */
bool config_is_group(str path);

typedef enum config_spelling { SPELLED_FLAG, SPELLED_NAME, SPELLED_ENV } config_spelling;
enum { CONFIG_HINT_BYTES = 80 };
/* "; did you mean '--port'?" when some spelling is near, else "".  Flags: the command's. */
void config_hint(char out[CONFIG_HINT_BYTES], str wrong, config_spelling spelling, command cmd);

/* --- values (config_value.c) ----------------------------------------------------------- */
/* Checks `text` and stores it, unless a stronger source or another command's option: then it
 * is only checked.  `label` says in errors where it stands: "--port".  ERR_INVALID. */
NODISCARD status config_value_set(config *c, const config_option *o, str text, config_source source,
                                  const char *label, error *err);
/* Stores the option's default, also that of another command's option. */
NODISCARD status config_value_default(config *c, const config_option *o, error *err);
/* Printed name of choice i; false past the last. */
bool config_choice_name(const config_option *o, uint32_t i, str *out);

/* --- sources --------------------------------------------------------------------------- */
/* One NULL-terminated "NAME=VALUE" per variable. */
NODISCARD status config_env_load(config *c, char *const *env, error *err);
NODISCARD status config_file_load(config *c, const char *path, error *err);
/* The same from memory; `file` is its name in errors. */
NODISCARD status config_file_parse(config *c, str text, const char *file, error *err);
/* config_load with another environment. */
NODISCARD status config_load_from(config *out, command cmd, int argc, char **argv, char *const *env,
                                  error *err);
/* Every option at its default; config_deinit() afterwards. */
NODISCARD status config_init(config *out, command cmd, error *err);

#endif
