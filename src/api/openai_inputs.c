/* openai_inputs.c - prompts and inputs as OpenAI writes them: texts, or lists of token ids. */
#include "api/openai.h"

status openai_inputs(openai_body *b, size_t count, error *err) {
    b->spec->inputs = arena_take(b->a, count * sizeof *b->spec->inputs);
    if (b->spec->inputs == NULL)
        return error_set(err, ERR_NOMEM, "api: no memory for %zu inputs", count);
    return OK;
}

status openai_add_text(openai_body *b, const json_node *n, error *err) {
    gen_input *in = &b->spec->inputs[b->spec->inputs_count++];
    str text = S("");
    if (!json_is_string(n->value)) return json_node_wrong_type(n, "string", err);
    TRY(json_node_str(n, SIZE_MAX, &text, err));
    in->kind = GEN_PROMPT_TEXT;
    return openai_keep(b, text, &in->text, err);
}

status openai_add_ids(openai_body *b, const json_node *array, error *err) {
    gen_input *in = &b->spec->inputs[b->spec->inputs_count++];
    char path[JSON_PATH_BYTES];
    if (!json_is_array(array->value)) return json_node_wrong_type(array, "array", err);
    size_t count = json_node_count(array);
    json_node_path(array, path);
    if (count == 0) return error_set(err, ERR_INVALID, "%s: has no tokens", path);
    if (count > WIRE_FRAME_BYTES_MAX / sizeof(int32_t))
        return error_set(err, ERR_INVALID, "%s: has %zu tokens, at most %zu", path, count,
                         WIRE_FRAME_BYTES_MAX / sizeof(int32_t));
    int32_t *ids = arena_take(b->a, count * sizeof *ids);
    if (ids == NULL) return error_set(err, ERR_NOMEM, "api: no memory for %zu ids", count);
    for (size_t i = 0; i < count; i++) {
        json_node n = json_node_element(array, i);
        if (!json_is_number(n.value)) return json_node_wrong_type(&n, "number", err);
        TRY(json_node_i32(&n, 0, INT32_MAX, &ids[i], err));
    }
    in->kind = GEN_PROMPT_IDS;
    in->ids = (wire_array){ids, (uint32_t)count};
    return OK;
}

/* The first element says which array it is. */
status openai_read_inputs(openai_body *b, const char *key, uint32_t inputs_max, error *err) {
    json_node prompt = {0};
    TRY(json_field_need(&b->f, key, &prompt, err));
    size_t count = json_is_array(prompt.value) ? json_node_count(&prompt) : 1;
    if (!json_is_string(prompt.value) && !json_is_array(prompt.value))
        return json_node_wrong_type(&prompt, "string or array", err);
    if (count == 0) return error_set(err, ERR_INVALID, "%s: has no prompts", key);
    json_node first = json_is_array(prompt.value) ? json_node_element(&prompt, 0) : prompt;
    bool texts = json_is_string(first.value), ids = json_is_number(first.value);
    if (!texts && !ids && !json_is_array(first.value))
        return json_node_wrong_type(&first, "string, number or array", err);
    if (ids) count = 1;
    if (count > inputs_max)
        return error_set(err, ERR_INVALID, "%s: has %zu prompts, at most %u", key, count,
                         inputs_max);
    TRY(openai_inputs(b, count, err));
    if (ids) return openai_add_ids(b, &prompt, err);
    if (!json_is_array(prompt.value)) return openai_add_text(b, &prompt, err);
    for (size_t i = 0; i < count; i++) {
        json_node n = json_node_element(&prompt, i);
        TRY(texts ? openai_add_text(b, &n, err) : openai_add_ids(b, &n, err));
    }
    return OK;
}
