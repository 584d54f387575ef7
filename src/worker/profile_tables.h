/* profile_tables.h - what a backend has measured, in the words of the wire.
 *
 * Owner: the engine thread, or the command that measures. */
#ifndef WORKER_PROFILE_TABLES_H
#define WORKER_PROFILE_TABLES_H

#include "backend/profile.h"
#include "wire/wire.h"

/* The median step of `f`; the parts tell what computed it.  Its entries are put into `entries`,
 * whose content before is gone, and which must outlive the table. */
void profile_table_fill(profile_table *out, buf *entries, const profile *f,
                        const backend_profile *parts, uint32_t parts_count);

/* Tasks of a step in all parts. */
uint32_t profile_tasks(const backend_profile *parts, uint32_t parts_count);

#endif
