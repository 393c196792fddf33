/* What stands before main on a Cortex-M: vectors, memory, the FPU; and words to the host. */
#include <stdint.h>

extern uint32_t data_from[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
int main(void);
void reset(void);
void say(const char *text);

static void semihosting(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void say(const char *text) { semihosting(4, text); }

static void leave(int reason) {
    semihosting(0x18, (const void *)reason);
    for (;;) {}
}

void reset(void) {
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: the FPU may be used */
    __asm__ volatile("dsb\n isb");
#endif
    for (uint32_t *to = data_start, *from = data_from; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
    main();
    leave(0x20026);
}

static void fault(void) {
    say("fault\n");
    leave(0x20023);
}

__attribute__((section(".vectors"), used)) const void *const vectors[16] = {
    stack_top, reset, fault, fault, fault, fault, fault,
};
