// What the C kernels share. Each defines `run`, which does the same work at each call and returns a checksum.
#include <stdint.h>
#include <stddef.h>

#define EXPORT __attribute__((export_name("run")))

// The next of a sequence of pseudo-random numbers; `state` must not be 0.
static inline uint64_t random_next(uint64_t *state) {
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}
