/* device.h - what a command computes with: --gpu, --backend and --device, held against the machine.
 *
 * Nothing is dropped silently: a GPU that was asked for and cannot be used is an error with reason
 * and remedy; where one is only preferred, the reason becomes a note for the log and /health. */
#ifndef APP_DEVICE_H
#define APP_DEVICE_H

#include "app/config.h"
#include "backend/backend.h"
#include "base/error.h"

typedef struct device_choice {
    const backend_ops *backend;
    uint32_t devices_count; /* GPUs that may be used; 0 for other backends */
    uint32_t devices_min;   /* of them used; the others where the model is larger than these */
    const char *devices[BACKEND_DEVICES_MAX]; /* UUIDs, static */
    bool preferred; /* a GPU is used because there is one: the CPU would do, too */
    char note[768]; /* one line: "Tesla T4 (device 0, sm_75 cubin)", or "none used: WHY; FIX" */
} device_choice;

/* The machine is looked at once per process.  Main thread, or the loader's. */
NODISCARD status device_choose(const config *c, device_choice *out, error *err);

/* A WARN line for each option that asks for layers of a GPU where none is used. */
void device_log_unused(const config *c, const device_choice *d);

#endif
