/* test_machine.c - the loops run, on every instruction set that this CPU has. */
#include "app/machine_internal.h"

#include "test.h"

TEST(machine_measures_what_it_has_a_loop_for) {
    static const cpu_isa caps[] = {CPU_ISA_SCALAR, CPU_ISA_AUTO};
    for (int i = 0; i < 2; i++) {
        machine *m = NULL;
        error err;
        CHECK_EQ(machine_open(&m, 1, caps[i], &err), OK);
        CHECK(machine_read_bytes(m) >= READ_CHUNK_BYTES);
        CHECK(machine_loop_name(m, MACHINE_READ) != NULL);
        CHECK(machine_loop_name(m, MACHINE_F32) != NULL);
        for (machine_figure f = 0; f < MACHINE_FIGURE_COUNT; f++) {
            double per_s = -1;
            CHECK_EQ(machine_measure(m, f, &per_s, &err), OK);
            CHECK_EQ(per_s > 0, machine_loop_name(m, f) != NULL);
        }
        machine_close(m);
    }
}

TEST(machine_loops_of_a_lesser_instruction_set_are_lesser) {
    machine_loop loops[MACHINE_FIGURE_COUNT] = {0};
    machine_loops_x86(CPU_ISA_AVX2, loops);
    CHECK(loops[MACHINE_AMX_INT8].name == NULL && loops[MACHINE_AMX_BF16].name == NULL);
    CHECK(loops[MACHINE_AVX512_BF16].name == NULL);
    if (loops[MACHINE_INT8].name != NULL) CHECK_STR(loops[MACHINE_INT8].name, "avx2 vpmaddubsw");
}
