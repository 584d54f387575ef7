/* doctor_internal.h - what the checks of `gantry doctor` write down. */
#ifndef APP_DOCTOR_INTERNAL_H
#define APP_DOCTOR_INTERNAL_H

#include "app/config.h"
#include "app/gpu_list.h"

/* X(NAME, name): how a check ended.  Only what was asked for can FAIL. */
#define DOCTOR_VERDICTS(X) \
    X(OK, "ok")            \
    X(WARN, "warn")        \
    X(FAIL, "fail")

typedef enum doctor_verdict {
#define DOCTOR_VERDICT_ENUM(id, name) DOCTOR_##id,
    DOCTOR_VERDICTS(DOCTOR_VERDICT_ENUM)
#undef DOCTOR_VERDICT_ENUM
        DOCTOR_VERDICT_COUNT
} doctor_verdict;

enum { DOCTOR_CHECKS_MAX = 48, DOCTOR_TEXT_BYTES = 640 };

typedef struct doctor_check {
    const char *name; /* static */
    doctor_verdict verdict;
    char text[DOCTOR_TEXT_BYTES]; /* what was found */
    char fix[DOCTOR_TEXT_BYTES];  /* what would help; "" when nothing is needed */
} doctor_check;

typedef struct doctor {
    const config *c; /* borrowed */
    uint32_t count;
    doctor_check checks[DOCTOR_CHECKS_MAX];
    gpu_list gpus;
} doctor;

/* Write down how a check ended; the fix is told apart by its own call. */
__attribute__((format(printf, 4, 5))) void doctor_say(doctor *d, const char *name,
                                                      doctor_verdict verdict, const char *fmt, ...);
/* What would help, for the check said last. */
__attribute__((format(printf, 2, 3))) void doctor_fix(doctor *d, const char *fmt, ...);

void doctor_check_machine(doctor *d); /* doctor_machine.c: processor, memory, disk, limits */
void doctor_check_gpus(doctor *d);    /* doctor_gpu.c: driver, NVML, kernels, each GPU */

#endif
