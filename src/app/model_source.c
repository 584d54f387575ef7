/* model_source.c - see model_source.h. */
#include "app/model_source.h"

#include "app/progress.h"
#include "base/log.h"
#include "model/quant_cache.h"
#include "model/synth.h"

static void show(void *ctx, uint64_t done_bytes, uint64_t total_bytes) {
    uint64_t total = total_bytes > 0 ? total_bytes : 1;
    progress_show(ctx, "quantizing", (uint32_t)((double)done_bytes / (double)total * 1000));
}

static status open_copy(model **out, const config *c, const char *path, error *err) {
    char dir[QUANT_CACHE_PATH_BYTES], copy[QUANT_CACHE_PATH_BYTES];
    progress_line line;
    bool made = false;
    requant_options opt = {.threads = c->threads, .progress = show, .progress_ctx = &line};
    if (!quant_mix_from_name(c->quantize_type, &opt.mix))
        return error_set(err, ERR_INVALID, "usage: --quantize: no type '%.*s'; types: %s",
                         STR(c->quantize_type), quant_mix_names());
    if (synth_is(path) || model_is_embedded(path))
        return error_set(err, ERR_INVALID, "usage: --quantize is for files, not for '%s'", path);
    if (!config_cache_dir(c, dir, sizeof dir))
        return error_set(err, ERR_INVALID,
                         "--quantize needs a place for its copy: --cache-dir DIR");
    progress_begin(&line, c->quantize_type);
    status st = quant_cache_get(copy, dir, path, &opt, &made, err);
    progress_end(&line);
    if (st != OK) return st;
    log_info("model", "quantized to %s: %s %s", quant_mix_name(opt.mix), made ? "wrote" : "found",
             copy);
    return model_open(out, copy, err);
}

status model_source_open(model **out, const config *c, const char *path, error *err) {
    return c->quantize_type.n > 0 ? open_copy(out, c, path, err) : model_open(out, path, err);
}
