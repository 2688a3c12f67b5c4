// ChaCha20 (RFC 8439) over 256 KiB.
#include "kernel.h"

static uint32_t buffer[65536];

static inline uint32_t rotate(uint32_t x, int by) { return x << by | x >> (32 - by); }

#define QUARTER(a, b, c, d)        \
    a += b; d = rotate(d ^ a, 16); \
    c += d; b = rotate(b ^ c, 12); \
    a += b; d = rotate(d ^ a, 8);  \
    c += d; b = rotate(b ^ c, 7);

static void block(uint32_t out[16], const uint32_t in[16]) {
    uint32_t x[16];
    for (int i = 0; i < 16; i++) x[i] = in[i];
    for (int round = 0; round < 10; round++) {
        QUARTER(x[0], x[4], x[8], x[12])
        QUARTER(x[1], x[5], x[9], x[13])
        QUARTER(x[2], x[6], x[10], x[14])
        QUARTER(x[3], x[7], x[11], x[15])
        QUARTER(x[0], x[5], x[10], x[15])
        QUARTER(x[1], x[6], x[11], x[12])
        QUARTER(x[2], x[7], x[8], x[13])
        QUARTER(x[3], x[4], x[9], x[14])
    }
    for (int i = 0; i < 16; i++) out[i] = x[i] + in[i];
}

EXPORT int64_t run(void) {
    uint32_t state[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    for (int i = 4; i < 16; i++) state[i] = i;
    uint32_t sum = 0;
    for (size_t at = 0; at < 65536; at += 16) {
        uint32_t stream[16];
        block(stream, state);
        state[12]++;
        for (int i = 0; i < 16; i++) {
            buffer[at + i] = stream[i] ^ (uint32_t)(at + i);
            sum = rotate(sum, 1) ^ buffer[at + i];
        }
    }
    return sum;
}
