// The eight queens problem for a board of ten: recursion and bits.
#include "kernel.h"

static __attribute__((noinline)) uint32_t place(uint32_t all, uint32_t columns, uint32_t left, uint32_t right) {
    if (columns == all) return 1;
    uint32_t count = 0;
    for (uint32_t free = all & ~(columns | left | right); free;) {
        uint32_t bit = free & -free;
        free ^= bit;
        count += place(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return count;
}

EXPORT int64_t run(void) { return place((1 << 10) - 1, 0, 0, 0); }
