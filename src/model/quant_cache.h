/* quant_cache.h - quantized copies of models, made once and found again by content.
 *
 *   DIR/CONTENT-TYPE.gguf   the copy; CONTENT is a BLAKE2b hash of every byte of the source
 *   DIR/STAMP.known         the content hash of files of these paths, sizes, times and inodes, so
 *                           that a second start does not read everything again
 *
 * Files appear by renaming: two processes that make the same copy at a time both succeed.  Nothing
 * is ever removed.  One thread per call. */
#ifndef MODEL_QUANT_CACHE_H
#define MODEL_QUANT_CACHE_H

#include "model/requant.h"

enum { QUANT_CACHE_PATH_BYTES = 4096 };

/* The path of a copy of `source`, a GGUF file or a SafeTensors directory, in the types of
 * opt->mix.  `dir` and the folder it is in are made when they are not there.  *made: it was not
 * there yet.  Errors are those of hf_dir.h and requant.h. */
NODISCARD status quant_cache_get(char out[QUANT_CACHE_PATH_BYTES], const char *dir,
                                 const char *source, const requant_options *opt, bool *made,
                                 error *err);

#endif
