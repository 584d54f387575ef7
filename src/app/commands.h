/* commands.h - one function per command; app.c picks it and reports its error. */
#ifndef APP_COMMANDS_H
#define APP_COMMANDS_H

#include "app/config.h"
#include "base/buf.h"
#include "base/error.h"

/* Each prints its result on stdout and nothing else there. */
NODISCARD status command_serve(const config *c, error *err);
NODISCARD status command_run(const config *c, error *err);
NODISCARD status command_tokenize(const config *c, error *err);
NODISCARD status command_detokenize(const config *c, error *err);
NODISCARD status command_logits(const config *c, error *err);
NODISCARD status command_perplexity(const config *c, error *err);
NODISCARD status command_embed(const config *c, error *err);
NODISCARD status command_bench(const config *c, error *err);
NODISCARD status command_dequantize(const config *c, error *err);
NODISCARD status command_quantize(const config *c, error *err);
NODISCARD status command_convert(const config *c, error *err);
NODISCARD status command_lora(const config *c, error *err);
NODISCARD status command_render(const config *c, error *err);
NODISCARD status command_inspect(const config *c, error *err);
NODISCARD status command_gpus(const config *c, error *err);
/* ERR_DEVICE after printing, when something does not work that was asked for. */
NODISCARD status command_doctor(const config *c, error *err);

/* ERR_INVALID (a usage error) when there are arguments. */
NODISCARD status command_no_args(const config *c, error *err);

/* The one positional MODEL; ERR_INVALID (a usage error) when it is missing or not alone. */
NODISCARD status command_model_arg(const config *c, const char **path, error *err);

/* Put the file's name in front of an error that came out of it; returns its code. */
status command_blame(const char *path, error *err);

/* All of stdin, or of a file, appended to `out`. */

NODISCARD status command_read_stdin(buf *out, error *err);
NODISCARD status command_read_file(const char *path, buf *out, error *err);

/* Token ids in decimal, separated by blanks or commas, appended to `ids` as int32. */
NODISCARD status command_parse_ids(str text, buf *ids, error *err);

/* Write to stdout; a reader that went away is ERR_IO. */
NODISCARD status command_write_stdout(const void *bytes, size_t n, error *err);

#endif
