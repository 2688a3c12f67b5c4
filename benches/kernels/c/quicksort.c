// Quicksort of 50,000 integers, insertion sort for what is short.
#include "kernel.h"

#define COUNT 50000
static uint32_t values[COUNT];

static void sort(uint32_t *from, uint32_t *to) {
    while (to - from > 12) {
        uint32_t pivot = from[(to - from) / 2];
        uint32_t *low = from, *high = to - 1;
        for (;;) {
            while (*low < pivot) low++;
            while (*high > pivot) high--;
            if (low >= high) break;
            uint32_t swap = *low;
            *low++ = *high;
            *high-- = swap;
        }
        sort(from, low);
        from = low;
    }
    for (uint32_t *next = from + 1; next < to; next++) {
        uint32_t value = *next, *at = next;
        for (; at > from && at[-1] > value; at--) *at = at[-1];
        *at = value;
    }
}

EXPORT int64_t run(void) {
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < COUNT; i++) values[i] = (uint32_t)random_next(&state);
    sort(values, values + COUNT);
    uint64_t sum = 0;
    for (int i = 1; i < COUNT; i++) sum = sum * 31 + values[i] + (values[i - 1] > values[i]);
    return (int64_t)sum;
}
