/* roofline.h - GET /debug/roofline: where the next steps of a model spend their time.
 *
 * The order goes down to the model's engine; the call waits for the report.  One at a time for each
 * model.  Owner: the net thread. */
#ifndef API_ROOFLINE_H
#define API_ROOFLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "net/http.h"
#include "wire/wire.h"
#include "json/write.h"

typedef struct front front;
typedef struct model_entry model_entry;

enum {
    ROOFLINE_STEPS = 16,     /* when nothing is said */
    ROOFLINE_SECONDS = 5,    /* the same */
    ROOFLINE_LATE_MS = 30000 /* a report that comes no later is waited for */
};

/* What a model has been asked to measure. */
typedef struct roofline_order {
    bool open;          /* the report is to come */
    uint32_t id;        /* of the last order */
    uint64_t until_ms;  /* it is waited for, by the loop's clock */
    uint32_t late;      /* an order that was given up: its report may still come; 0: none */
    http_call *waiting; /* borrowed; NULL: nobody does any more */
} roofline_order;

void roofline_handle(front *f, http_call *c, str tail);
/* What became of an order. */
void roofline_take_report(front *f, model_entry *m, str body);
/* Reports that are overdue are given up, calls that wait for them answered. */
void roofline_look_at_clock(front *f);
/* That client is gone. */
void roofline_forget_call(front *f, const http_call *c);

/* --- tables, for whoever has one -------------------- */

/* What an entry's speed comes to, per second. */
typedef struct roofline_rate {
    double bytes_per_s;
    double ops_per_s;
    const profile_limit *limit; /* borrowed, the place's: the one that its operations per byte make
                                   it meet first; NULL: none of them is known */
    double fraction;            /* of it */
} roofline_rate;

roofline_rate roofline_rate_of(const profile_table *t, const profile_entry *e);

/* Time of all entries; the rest of the step is barriers, launches, copies. */
uint64_t roofline_tasks_ns(const profile_table *t);

/* {"steps": ..} of a table as a value; null without steps. */
void roofline_write_table(json_writer *w, const profile_table *t);

#endif
