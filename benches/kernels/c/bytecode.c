// A stack machine that counts primes by trial division: a switch in a loop.
#include "kernel.h"

enum { PUSH, LOAD, STORE, ADD, MOD, LESS, JUMP, JUMP_IF_ZERO, HALT };

// n = 2; while n < 1200: d = 2; while d < n and n % d: d += 1; if not d < n: count += 1; n += 1
static const int32_t CODE[] = {
    PUSH, 2, STORE, 0,
    /* 4 */ LOAD, 0, PUSH, 1200, LESS, JUMP_IF_ZERO, 56,
    /* 11 */ PUSH, 2, STORE, 1,
    /* 15 */ LOAD, 1, LOAD, 0, LESS, JUMP_IF_ZERO, 39,
    /* 22 */ LOAD, 0, LOAD, 1, MOD, JUMP_IF_ZERO, 46,
    /* 29 */ LOAD, 1, PUSH, 1, ADD, STORE, 1, JUMP, 15, HALT,
    /* 39 */ LOAD, 2, PUSH, 1, ADD, STORE, 2,
    /* 46 */ LOAD, 0, PUSH, 1, ADD, STORE, 0, JUMP, 4, HALT,
    /* 56 */ HALT};

static __attribute__((noinline)) int32_t interpret(const int32_t *code) {
    int32_t stack[16], variables[4] = {0};
    int32_t *top = stack;
    for (const int32_t *pc = code;;) {
        switch (*pc++) {
        case PUSH: *top++ = *pc++; break;
        case LOAD: *top++ = variables[*pc++]; break;
        case STORE: variables[*pc++] = *--top; break;
        case ADD: top--; top[-1] += top[0]; break;
        case MOD: top--; top[-1] %= top[0]; break;
        case LESS: top--; top[-1] = top[-1] < top[0]; break;
        case JUMP: pc = code + *pc; break;
        case JUMP_IF_ZERO: pc = *--top ? pc + 1 : code + *pc; break;
        default: return variables[2];
        }
    }
}

EXPORT int64_t run(void) { return interpret(CODE); }
