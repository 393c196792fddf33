/* A model on an emulated Cortex-M: what it gives, how many instructions and how much stack it takes.
 * NAME is what its functions begin with, HEADER its header, SAMPLES how many are run. */
#include <stdint.h>
#include HEADER

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define OF(what) JOIN(NAME, what)
#define INPUTS JOIN(UPPER, _INPUTS)
#define OUTPUTS JOIN(UPPER, _OUTPUTS)

void say(const char *text);

static OF(_state) state;
static float x[SAMPLES * INPUTS], y[SAMPLES * OUTPUTS];

static volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010;
static uint32_t now(void) { return systick[2]; }
static uint32_t since(uint32_t then) { return (then - now()) & 0xffffff; }

static void number(const char *what, uint32_t value) {
    char text[10] = {0};
    for (int i = 7; i >= 0; i--, value >>= 4) text[i] = "0123456789abcdef"[value & 15];
    say(what);
    say(text);
    say("\n");
}

/* The same numbers as the host makes. */
static void fill(void) {
    uint32_t random = 1;
    for (int i = 0; i < SAMPLES * INPUTS; i++) {
        random = random * 1664525u + 1013904223u;
#if TOKENS
        x[i] = (float)((random >> 8) % TOKENS);
#else
        x[i] = (float)((int32_t)(random >> 8) - 8388608) * (1.0f / 4194304.0f);
#endif
    }
}

static void steps(void) {
    for (int t = 0; t < SAMPLES; t++) OF(_step)(&state, x + t * INPUTS, y + t * OUTPUTS);
}

static void chunks(void) { OF(_chunk)(&state, x, y, SAMPLES); }

static void nothing(void) {}

/* How deep the stack goes: a pattern below it, and what is left of that afterwards. */
extern uint32_t stack_bottom[];
static uint32_t depth(void (*call)(void)) {
    uint32_t *volatile here = (uint32_t *)__builtin_frame_address(0) - 64;
    for (uint32_t *p = stack_bottom; p < here; p++) *p = 0xa5a5a5a5u;
    call();
    uint32_t *p = stack_bottom;
    while (p < here && *p == 0xa5a5a5a5u) p++;
    return (uint32_t)((char *)here - (char *)p);
}

int main(void) {
    systick[1] = 0xffffff;
    systick[2] = 0;
    systick[0] = 5;
    fill();
    /* A loop of two instructions tells how many there are to a tick. */
    uint32_t turns = 1000000, then = now();
    __asm__ volatile("1: subs %0, #1\n bne 1b" : "+l"(turns) : : "cc");
    number("ticks_of_2000000 ", since(then));
#ifdef SELFTEST
    number("selftest ", (uint32_t)OF(_selftest)());
#endif
    OF(_init)(&state);
    then = now();
    steps();
    number("step_ticks ", since(then));
    for (int i = 0; i < SAMPLES * OUTPUTS; i++) {
        union {
            float value;
            uint32_t bits;
        } one = {y[i]};
        number("y ", one.bits);
    }
    OF(_init)(&state);
    then = now();
    chunks();
    number("chunk_ticks ", since(then));
    const uint32_t none = depth(nothing);
    number("step_stack ", depth(steps) - none);
    number("chunk_stack ", depth(chunks) - none);
    return 0;
}
