// Following pointers through 512 KiB in an order that no prefetcher guesses.
#include "kernel.h"

#define COUNT 32768
struct node {
    struct node *next;
    uint32_t value;
    uint64_t padding;
};
static struct node nodes[COUNT];
static int is_linked;

// One cycle through all nodes (Sattolo).
static void make(void) {
    uint64_t state = 88172645463325252u;
    static uint32_t order[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) order[i] = i;
    for (uint32_t i = COUNT - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(random_next(&state) % i), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        nodes[i].next = &nodes[order[i]];
        nodes[i].value = i;
    }
    is_linked = 1;
}

EXPORT int64_t run(void) {
    if (!is_linked) make();
    uint64_t sum = 0;
    const struct node *at = nodes;
    for (int i = 0; i < 400000; i++) {
        sum = sum * 3 + at->value;
        at = at->next;
    }
    return (int64_t)sum;
}
