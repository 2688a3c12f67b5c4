// Compression of text by references to earlier text, and back: hashing, short copies, unpredictable branches.
#include "kernel.h"

#define SIZE 65536
static uint8_t text[SIZE], packed[SIZE * 2], unpacked[SIZE];
static uint32_t heads[4096];

static void make_text(void) {
    static const char WORDS[] = "the quick brown fox jumps over a lazy dog and then some more of it again ";
    uint64_t state = 88172645463325252u;
    size_t at = 0;
    while (at < SIZE) {
        size_t word = random_next(&state) % (sizeof WORDS - 1);
        do text[at++] = WORDS[word];
        while (WORDS[word++] != ' ' && at < SIZE);
    }
}

static size_t pack(void) {
    for (int i = 0; i < 4096; i++) heads[i] = 0;
    size_t out = 0, at = 0;
    while (at + 4 <= SIZE) {
        uint32_t four = text[at] | text[at + 1] << 8 | text[at + 2] << 16 | (uint32_t)text[at + 3] << 24;
        uint32_t *head = &heads[four * 2654435761u >> 20];
        size_t from = *head, length = 0;
        *head = (uint32_t)at;
        if (from < at)
            while (length < 255 && at + length < SIZE && text[from + length] == text[at + length]) length++;
        if (length >= 4) {
            packed[out++] = (uint8_t)length;
            packed[out++] = (uint8_t)(at - from);
            packed[out++] = (uint8_t)((at - from) >> 8);
            at += length;
        } else {
            packed[out++] = 0;
            packed[out++] = text[at++];
        }
    }
    while (at < SIZE) {
        packed[out++] = 0;
        packed[out++] = text[at++];
    }
    return out;
}

static size_t unpack(size_t length) {
    size_t out = 0;
    for (size_t at = 0; at < length;) {
        uint32_t count = packed[at++];
        if (!count) {
            unpacked[out++] = packed[at++];
            continue;
        }
        size_t from = out - (packed[at] | packed[at + 1] << 8);
        at += 2;
        while (count--) unpacked[out++] = unpacked[from++];
    }
    return out;
}

EXPORT int64_t run(void) {
    make_text();
    size_t length = pack();
    uint64_t sum = unpack(length) + length;
    for (size_t i = 0; i < SIZE; i++) sum = sum * 31 + (unpacked[i] ^ text[i]);
    return (int64_t)sum;
}
