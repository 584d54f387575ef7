/* jinja_render.c - a context, a template, a text.
 *
 * The context becomes values once, before the first statement: only the members that the template
 * mentions.  Everything a render makes is in one arena and one buffer, gone when it ends. */
#include "base/num.h"
#include "base/os.h"
#include "text/jinja_run.h"
#include "json/read.h"

jinja_limits jinja_default_limits(void) {
    return (jinja_limits){.steps_max = 50000000,
                          .memory_bytes_max = (size_t)256 << 20,
                          .output_bytes_max = (size_t)64 << 20,
                          .time_ns_max = (uint64_t)5 * 1000 * 1000 * 1000};
}

/* --- JSON to values ------------------------------------------------------------------- */

static status from_json(jinja_run *r, const json_node *node, jinja_value *out);

typedef struct members {
    jinja_run *r;
    jinja_dict *dict;
    status st; /* of the first that failed */
} members;

static void add_member(void *arg, const json_node *member) {
    members *m = arg;
    jinja_value key = jinja_text(member->key), value;
    if (m->st == OK) m->st = jinja_text_copy(m->r, member->key, &key);
    if (m->st == OK) m->st = from_json(m->r, member, &value);
    if (m->st == OK) m->st = jinja_dict_set(m->r, m->dict, &key, &value);
}

static status from_object(jinja_run *r, const json_node *node, jinja_value *out) {
    TRY(jinja_dict_new(r, json_object_size(node->value), out));
    members m = {.r = r, .dict = out->as.dict};
    json_node_each(node, add_member, &m);
    return m.st;
}

static status from_array(jinja_run *r, const json_node *node, jinja_value *out) {
    size_t count = json_node_count(node);
    TRY(jinja_list_new(r, JINJA_LIST, count, out));
    for (size_t i = 0; i < count; i++) {
        json_node element = json_node_element(node, i);
        TRY(from_json(r, &element, &out->as.list->items[i]));
    }
    out->as.list->count = count;
    return OK;
}

/* Integers from 2^63 to 2^64-1 are reals to jansson; the document knows their exact values. */
static jinja_value from_real(const json_node *node) {
    const json_doc *doc = node->doc;
    double real = json_real_value(node->value);
    for (uint32_t i = 0; real >= 0x1p63 && i < doc->bigs_count; i++)
        if (doc->bigs[i].node == node->value) return jinja_integer((jinja_int)doc->bigs[i].value);
    return jinja_float(real);
}

/* No deeper than JSON_DEPTH_MAX, which the reader of the text has checked. */
static status from_json(jinja_run *r, const json_node *node, jinja_value *out) {
    TRY(jinja_step(r, 1));
    switch (json_typeof(node->value)) {
    case JSON_OBJECT:
        return from_object(r, node, out);
    case JSON_ARRAY:
        return from_array(r, node, out);
    case JSON_STRING:
        return jinja_text_copy(
            r, (str){json_string_value(node->value), json_string_length(node->value)}, out);
    case JSON_INTEGER:
        *out = jinja_integer(json_integer_value(node->value));
        return OK;
    case JSON_REAL:
        *out = from_real(node);
        return OK;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = jinja_bool(json_is_true(node->value));
        return OK;
    default:
        *out = jinja_none();
        return OK;
    }
}

/* --- what the template sees ----------------------------------------------------------- */

typedef struct context_members {
    jinja_run *r;
    status st;
} context_members;

static void add_variable(void *arg, const json_node *member) {
    context_members *m = arg;
    const jinja_template *t = m->r->t;
    if (m->st != OK) return;
    m->st = jinja_step(m->r, 1 + t->names_count / 8);
    for (uint32_t i = 0; i < t->names_count && m->st == OK; i++)
        if (str_eq(t->names[i], member->key)) m->st = from_json(m->r, member, &m->r->context[i]);
}

static status fill_context(jinja_run *r, str context_json) {
    json_doc doc = {0};
    TRY(json_parse(context_json, &doc, r->err));
    json_node root = json_root(&doc);
    context_members m = {.r = r};
    if (json_is_object(root.value))
        json_node_each(&root, add_variable, &m);
    else
        m.st = jinja_fail(r, "the context is %s, want object", json_node_type(&root));
    json_doc_deinit(&doc);
    return m.st;
}

/* The functions of the language, where the context has nothing of their name. */
static void fill_functions(jinja_run *r) {
    for (uint32_t i = 0; i < r->t->names_count; i++) {
        const jinja_def *def = jinja_function_find(r->t->names[i]);
        if (def == NULL || !jinja_is_missing(&r->context[i])) continue;
        r->context[i] = (jinja_value){.kind = JINJA_FUNCTION, .as.def = def};
    }
}

static status open_run(jinja_run *r) {
    void *p = NULL, *q = NULL;
    TRY(jinja_take(r, r->t->names_count, sizeof(jinja_value), &p));
    TRY(jinja_take(r, r->t->names_count, sizeof(jinja_value), &q));
    r->context = p;
    r->top = q;
    return OK;
}

static status run(jinja_run *r, str context_json) {
    TRY(open_run(r));
    TRY(fill_context(r, context_json));
    fill_functions(r);
    TRY(jinja_exec(r, &r->t->body));
    return buf_status(&r->text, "chat template", r->err);
}

status jinja_render(const jinja_template *t, str context_json, const jinja_env *env, buf *out,
                    error *err) {
    uint64_t now = env->limits.time_ns_max != 0 ? os_now_ns() : 0;
    jinja_run r = {.t = t, .env = env, .err = err, .line = 1};
    if (!num_add_u64(&r.deadline_ns, now, env->limits.time_ns_max)) r.deadline_ns = UINT64_MAX;
    arena_init(&r.mem, env->limits.memory_bytes_max);
    buf_init(&r.text, env->limits.output_bytes_max);
    status st = run(&r, context_json);
    if (st == OK) {
        buf_put_str(out, buf_view(&r.text)); /* all of it or nothing */
        st = buf_status(out, "chat template", err);
    }
    buf_deinit(&r.text);
    arena_deinit(&r.mem);
    return st;
}
