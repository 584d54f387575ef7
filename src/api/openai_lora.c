/* openai_lora.c - "lora": [{"id": 0, "scale": 0.5}, {"name": "poet"}] of a request's body.
 *
 * The list says everything: what it leaves out is not used, and an empty one means none.  Which
 * adapters there are is for adapters.c to say. */
#include <stdio.h>

#include "api/openai.h"

enum { SCALE_MAX = 1000000 };

typedef struct unused_names {
    openai_body *b; /* borrowed */
    size_t index;   /* of the element */
} unused_names;

static void ignore_member(void *arg, str key) {
    const unused_names *u = arg;
    char name[64];
    (void)snprintf(name, sizeof name, "lora.%zu.%.*s", u->index, STR(key));
    openai_ignore(u->b->spec, str_of(name));
}

static status read_lora(openai_body *b, const json_node *n, gen_lora *out, error *err) {
    json_fields f;
    str name = S("");
    *out = (gen_lora){.id = UINT32_MAX, .scale = 1.0f};
    TRY(json_fields_open(&f, n, err));
    TRY(json_get_u32(&f, "id", 0, UINT32_MAX - 1, &out->id, err));
    TRY(json_get_str(&f, "name", MODEL_NAME_BYTES_MAX, &name, err));
    TRY(json_get_f32(&f, "scale", -SCALE_MAX, SCALE_MAX, &out->scale, err));
    TRY(openai_keep(b, name, &out->name, err));
    (void)json_fields_unused(&f, ignore_member, &(unused_names){b, n->index});
    if ((out->id == UINT32_MAX) != (name.n == 0)) return OK;
    char path[JSON_PATH_BYTES];
    json_node_path(n, path);
    return error_set(err, ERR_INVALID, "%s: want one of 'id' and 'name'", path);
}

status openai_read_loras(openai_body *b, error *err) {
    gen_spec *spec = b->spec;
    json_node list = {0};
    TRY(json_get_array(&b->f, "lora", WIRE_ADAPTERS_MAX, &list, err));
    if (list.value == NULL) return OK;
    spec->loras_given = true;
    for (size_t i = 0; i < json_node_count(&list); i++) {
        json_node n = json_node_element(&list, i);
        TRY(read_lora(b, &n, &spec->loras[i], err));
        spec->loras_count++;
    }
    return OK;
}
