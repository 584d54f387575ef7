/* wire_samples.h - random but valid messages, for the tests of the codec.
 *
 * The spans of a sample live in its `sample_bytes`, so one such pool serves one message
 * or one frame of events.  The same seed gives the same messages. */
#ifndef WIRE_SAMPLES_H
#define WIRE_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

typedef struct sample_bytes {
    uint64_t state;
    size_t used;
    char bytes[256 << 10];
} sample_bytes;

void sample_init(sample_bytes *s, uint64_t seed);

uint32_t sample_u32(sample_bytes *s, uint32_t below); /* below > 0 */
float sample_f32(sample_bytes *s, float lo, float hi);
str sample_str(sample_bytes *s, uint32_t bytes_max);

gen_request sample_request(sample_bytes *s);
gen_event sample_event(sample_bytes *s, gen_event_kind kind);
engine_status sample_status(sample_bytes *s);
adapter_order sample_adapter(sample_bytes *s);
adapter_state sample_adapter_state(sample_bytes *s);
model_desc sample_model(sample_bytes *s);
profile_report sample_profile_report(sample_bytes *s);

#endif
