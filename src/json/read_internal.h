/* read_internal.h - what the two halves of json/read share. */
#ifndef JSON_READ_INTERNAL_H
#define JSON_READ_INTERNAL_H

#include "json/read.h"

/* The exact value of a node whose integer does not fit in int64_t; false for other nodes. */
bool json_doc_big(const json_doc *doc, const json_t *node, uint64_t *out);

#endif
