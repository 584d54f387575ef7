/* api_graph.c - captured graphs and how they are launched. */
#include "cudasim/driver/sim_internal.h"

#include <stdlib.h>

static sim_graph *graph_new(sim_device *device, sim_kind kind) {
    sim_graph *g = sim_new(sizeof *g);
    g->device = device;
    g->handle = sim_handle_new(kind, g);
    return g;
}

static void graph_free(sim_graph *g) {
    sim_handle_drop(g->handle);
    op_list_clear(&g->nodes);
    marker_unref(g->last);
    free(g);
}

static sim_graph *graph_find(const sim_device *device, sim_kind kind, const void *handle) {
    sim_graph *g = sim_handle_get(kind, handle);
    return g != NULL && g->device == device ? g : NULL;
}

static void clone_nodes(const sim_graph *from, sim_op_list *to) {
    for (const sim_op *op = from->nodes.head; op != NULL; op = op->next)
        op_list_add(to, op_clone(op));
}

/* --- capture -------------------- */

static cu_result begin(sim_device *device, cu_stream handle, int mode) {
    cu_result result;
    sim_stream *s = stream_find(device, handle, &result);
    return s == NULL ? result : capture_begin(s, mode);
}

cu_result cuStreamBeginCapture_v2(cu_stream stream, int mode) {
    SIM_IN_CONTEXT(cuStreamBeginCapture_v2, begin(device, stream, mode));
}

static cu_result end(sim_device *device, cu_stream handle, cu_graph *out) {
    cu_result result;
    sim_op_list nodes = {0};
    sim_stream *s = stream_find(device, handle, &result);
    if (out == NULL) return CU_INVALID_VALUE;
    *out = NULL;
    if (s == NULL) return result;
    result = capture_end(s, &nodes);
    if (result != CU_SUCCESS) return result;
    sim_graph *g = graph_new(device, SIM_GRAPH);
    for (sim_op *op; (op = op_list_take(&nodes)) != NULL;) op_list_add(&g->nodes, op);
    *out = g->handle;
    return CU_SUCCESS;
}

cu_result cuStreamEndCapture(cu_stream stream, cu_graph *out) {
    SIM_IN_CONTEXT(cuStreamEndCapture, end(device, stream, out));
}

/* --- executable graphs -------------------- */

static cu_result instantiate(sim_device *device, cu_graph_exec *out, cu_graph handle,
                             unsigned long long flags) {
    const sim_graph *g = graph_find(device, SIM_GRAPH, handle);
    if (out == NULL || flags != 0) return CU_INVALID_VALUE;
    if (g == NULL) return CU_INVALID_HANDLE;
    sim_graph *exec = graph_new(device, SIM_EXEC);
    clone_nodes(g, &exec->nodes);
    *out = exec->handle;
    return CU_SUCCESS;
}

cu_result cuGraphInstantiateWithFlags(cu_graph_exec *out, cu_graph graph,
                                      unsigned long long flags) {
    SIM_IN_CONTEXT(cuGraphInstantiateWithFlags, instantiate(device, out, graph, flags));
}

/* In a capture the graph's nodes become nodes of the one that is recorded. */
static cu_result launch_into_capture(sim_stream *s, const sim_graph *exec) {
    cu_result result = s->capture->broken ? CU_STREAM_CAPTURE_INVALIDATED : CU_SUCCESS;
    for (const sim_op *op = exec->nodes.head; op != NULL && result == CU_SUCCESS; op = op->next)
        result = capture_add(s, op_clone(op));
    return result;
}

/* A graph never runs beside itself: the launch waits for the one before, in whatever stream. */
static cu_result graph_launch(sim_device *device, cu_graph_exec handle, cu_stream stream_handle) {
    cu_result result;
    sim_graph *exec = graph_find(device, SIM_EXEC, handle);
    if (exec == NULL) return CU_INVALID_HANDLE;
    sim_stream *s = stream_find(device, stream_handle, &result);
    if (s == NULL) return result;
    if (s->capture != NULL) return launch_into_capture(s, exec);
    if (exec->last != NULL && !exec->last->done) queue_push(s, op_marker(OP_WAIT, exec->last));
    for (const sim_op *op = exec->nodes.head; op != NULL; op = op->next)
        queue_push(s, op_clone(op));
    marker_unref(exec->last);
    exec->last = marker_new(s);
    queue_push(s, op_marker(OP_RECORD, exec->last));
    queue_settle(s);
    return CU_SUCCESS;
}

cu_result cuGraphLaunch(cu_graph_exec exec, cu_stream stream) {
    SIM_IN_CONTEXT(cuGraphLaunch, graph_launch(device, exec, stream));
}

/* --- ends -------------------- */

static cu_result destroy(const sim_device *device, sim_kind kind, const void *handle) {
    sim_graph *g = graph_find(device, kind, handle);
    if (g == NULL) return CU_INVALID_HANDLE;
    graph_free(g);
    return CU_SUCCESS;
}

cu_result cuGraphExecDestroy(cu_graph_exec exec) {
    SIM_IN_CONTEXT(cuGraphExecDestroy, destroy(device, SIM_EXEC, exec));
}

cu_result cuGraphDestroy(cu_graph graph) {
    SIM_IN_CONTEXT(cuGraphDestroy, destroy(device, SIM_GRAPH, graph));
}

static uint64_t release_kind(const sim_device *device, sim_kind kind) {
    uint64_t count = 0;
    sim_graph *g;
    for (uint32_t at = 0; (g = sim_handle_next(kind, &at)) != NULL;) {
        if (g->device != device) continue;
        graph_free(g);
        count++;
    }
    return count;
}

uint64_t graphs_release(const sim_device *device) {
    return release_kind(device, SIM_GRAPH) + release_kind(device, SIM_EXEC);
}
