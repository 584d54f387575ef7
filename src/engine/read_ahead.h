/* read_ahead.h - weights that the CPU computes from as they are stored, in memory before the first
 * request needs them.
 *
 * They are mapped from the file: whose pages nobody has read yet are read in the middle of a step,
 * one by one.  Every page is read once while whoever asked for the model waits anyway.  Engine
 * thread. */
#ifndef ENGINE_READ_AHEAD_H
#define ENGINE_READ_AHEAD_H

#include "backend/backend.h"

/* Bytes of all weights in the file; rows of tables are among them. */
uint64_t read_ahead_all_bytes(const backend_place *places, uint32_t count);

/* Of them, those that steps on the host read whole and as they are stored. */
uint64_t read_ahead_bytes(const backend_place *places, uint32_t count);

/* Read those, and tell of `done` bytes and more of `total`.  More than `available` would push each
 * other out of memory: then none is read, and a WARN line says it.  ERR_CANCELED when `progress`
 * says stop. */
NODISCARD status read_ahead(const backend_place *places, uint32_t count, uint64_t available,
                            const backend_progress *progress, uint64_t done, uint64_t total,
                            error *err);

#endif
