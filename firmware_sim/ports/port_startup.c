/* Vector table, start-up, faults, reset, stack, marks: everything that is the core's and not the chip's. */
#include <string.h>

#include "port_driver.h"

#define CCR PORT_REGISTER(0xE000ED14u)
#define AIRCR PORT_REGISTER(0xE000ED0Cu)
#define SHCSR PORT_REGISTER(0xE000ED24u)
#define CFSR PORT_REGISTER(0xE000ED28u)
#define HFSR PORT_REGISTER(0xE000ED2Cu)
#define MMFAR PORT_REGISTER(0xE000ED34u)
#define BFAR PORT_REGISTER(0xE000ED38u)
#define CPACR PORT_REGISTER(0xE000ED88u)
#define MPU_CTRL PORT_REGISTER(0xE000ED94u)
#define MPU_RNR PORT_REGISTER(0xE000ED98u)
#define MPU_RBAR PORT_REGISTER(0xE000ED9Cu)
#define MPU_RASR PORT_REGISTER(0xE000EDA0u)
#define NVIC_ISER(word) PORT_REGISTER(0xE000E100u + 4u * (word))
#define NVIC_ICER(word) PORT_REGISTER(0xE000E180u + 4u * (word))

#define AIRCR_RESET 0x05FA0004u
#define CFSR_NO_FRAME 0x00003030u /* STKERR, UNSTKERR, MSTKERR, MUNSTKERR: the exception frame is not in memory */
#define CFSR_MMARVALID 0x00000080u
#define CFSR_BFARVALID 0x00008000u
#define PAINT 0xA5C3A5C3u
#define FAULT_MAGIC 0x544C5546u
#define FRAME_BYTES 32u

/* The linker script's. */
extern uint32_t port_thread_stack_start[], port_thread_stack_end[], port_interrupt_stack_end[];
extern uint32_t port_data_start[], port_data_end[], port_data_load[], port_bss_start[], port_bss_end[];

int main(void);
void port_reset_handler(void);
void port_fault_entry(void);
/* Only assembly names these three. */
__attribute__((used)) void port_start(void);
__attribute__((used)) void port_run(void);
__attribute__((used)) void port_fault_record(const uint32_t *frame);

typedef union {
    void (*handler)(void);
    const void *stack;
} port_vector;

__attribute__((section(".vectors"), used)) const port_vector port_vectors[PORT_VECTOR_COUNT] = {
    [0] = {.stack = port_interrupt_stack_end},
    [1] = {.handler = port_reset_handler},
    [2] = {.handler = port_fault_entry},
    [3] = {.handler = port_fault_entry},
    [4] = {.handler = port_fault_entry},
    [5] = {.handler = port_fault_entry},
    [6] = {.handler = port_fault_entry},
    [PORT_UART_VECTOR] = {.handler = port_uart_handler},
    [PORT_TIMER_VECTOR] = {.handler = port_timer_handler},
};

/* Which board this is linked for, in a section that takes no memory there: emulators read it. */
__asm__(".pushsection .tflnest.board, \"\", %progbits\n"
        ".asciz \"" PORT_LABEL "\"\n"
        ".popsection\n");

/* Survives a reset. `magic` and its complement tell a record from what memory holds after power-up; `count` tells a
 * debugger that there is a new one. */
static struct {
    uint32_t magic;
    uint32_t complement;
    uint32_t count;
    port_fault fault;
} port_saved __attribute__((section(".noinit")));

/* -------------------------------------------------------------------------------------------------- start-up */

#ifdef PORT_MPU_REGIONS
static const uint32_t port_mpu_regions[][2] = {PORT_MPU_REGIONS};

static void port_protect(void)
{
    for (uint32_t i = 0; i < sizeof port_mpu_regions / sizeof port_mpu_regions[0]; i++) {
        MPU_RNR = i;
        MPU_RBAR = port_mpu_regions[i][0];
        MPU_RASR = port_mpu_regions[i][1];
    }
    /* No background region: whatever no region allows is a MemManage fault. HardFault still sees all memory. */
    MPU_CTRL = 1u;
    __asm volatile("dsb\n isb" : : : "memory");
}
#endif

/* From reset, on the interrupt stack. Returns to port_reset_handler, which goes on with port_run. */
void port_start(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    CPACR |= 0x00F00000u;
    __asm volatile("dsb\n isb" : : : "memory");
#endif
#if defined(__ARM_FEATURE_MVE)
    CCR |= PORT_BIT(19); /* low-overhead loops */
#endif
    for (uint32_t *word = port_thread_stack_start; word < port_thread_stack_end; word++) {
        *word = PAINT;
    }
    memcpy(port_data_start, port_data_load, (size_t)((uintptr_t)port_data_end - (uintptr_t)port_data_start));
    memset(port_bss_start, 0, (size_t)((uintptr_t)port_bss_end - (uintptr_t)port_bss_start));
#if !defined(__ARM_ARCH_6M__)
    SHCSR |= 0x00070000u; /* MemManage, BusFault and UsageFault of their own, not as HardFault */
#endif
#ifdef PORT_MPU_REGIONS
    port_protect();
#endif
}

__attribute__((naked)) void port_reset_handler(void)
{
    __asm volatile(".syntax unified\n"
                   " bl port_start\n"
                   " ldr r0, =port_thread_stack_end\n"
                   " msr psp, r0\n"
                   " movs r0, #2\n"
                   " msr control, r0\n"
                   " isb\n"
                   " bl port_run\n"
                   " .ltorg\n");
}

/* The application, on its own stack. */
void port_run(void)
{
    (void)main();
    for (;;) {
        __asm volatile("wfi");
    }
}

/* ---------------------------------------------------------------------------------------------------- faults */

/* Which stack holds the exception frame is bit 2 of EXC_RETURN. The handler itself starts on a fresh interrupt
 * stack, since nothing returns from here, and since the old one may be what faulted. */
__attribute__((naked, weak, section(".text.port_handlers"))) void port_fault_entry(void)
{
    __asm volatile(".syntax unified\n"
                   " mov r1, lr\n"
                   " movs r0, #4\n"
                   " tst r1, r0\n"
                   " beq 1f\n"
                   " mrs r0, psp\n"
                   " b 2f\n"
                   "1: mrs r0, msp\n"
                   "2: ldr r1, =port_interrupt_stack_end\n"
                   " msr msp, r1\n"
                   " ldr r1, =port_fault_record\n"
                   " bx r1\n"
                   " .ltorg\n");
}

PORT_HANDLER void port_fault_record(const uint32_t *frame)
{
    uint32_t exception;
    uintptr_t at = (uintptr_t)frame;
    port_fault *fault = &port_saved.fault;

    __asm volatile(".syntax unified\n mrs %0, ipsr" : "=r"(exception));
    fault->exception = exception;
    fault->cfsr = 0;
    fault->hfsr = 0;
    fault->address = 0;
    fault->pc = 0;
    fault->lr = 0;
    fault->sp = (uint32_t)at;
#if !defined(__ARM_ARCH_6M__)
    fault->cfsr = CFSR;
    fault->hfsr = HFSR;
    if (fault->cfsr & CFSR_MMARVALID) {
        fault->address = MMFAR;
    } else if (fault->cfsr & CFSR_BFARVALID) {
        fault->address = BFAR;
    }
#endif
    if ((fault->cfsr & CFSR_NO_FRAME) == 0u && at >= PORT_SRAM_BASE &&
        at <= PORT_SRAM_BASE + PORT_SRAM_BYTES - FRAME_BYTES && (at & 3u) == 0u) {
        fault->lr = frame[5];
        fault->pc = frame[6];
    }
    port_saved.count = port_saved.complement == ~FAULT_MAGIC ? port_saved.count + 1u : 1u;
    port_saved.magic = FAULT_MAGIC;
    port_saved.complement = ~FAULT_MAGIC;
    port_reset();
}

const port_fault *port_last_fault(void)
{
    if (port_saved.magic != FAULT_MAGIC || port_saved.complement != ~FAULT_MAGIC) {
        return 0;
    }
    port_saved.magic = 0;
    return &port_saved.fault;
}

PORT_HANDLER void port_reset(void)
{
    __asm volatile("dsb" : : : "memory");
    AIRCR = AIRCR_RESET;
    __asm volatile("dsb" : : : "memory");
    for (;;) {
    }
}

/* ----------------------------------------------------------------------------------------------------- stack */

uint32_t port_stack_size(void)
{
    return (uint32_t)((uintptr_t)port_thread_stack_end - (uintptr_t)port_thread_stack_start);
}

uint32_t port_stack_peak(void)
{
    const volatile uint32_t *word = port_thread_stack_start;

    while (word < port_thread_stack_end && *word == PAINT) {
        word++;
    }
    return (uint32_t)((uintptr_t)port_thread_stack_end - (uintptr_t)word);
}

/* ----------------------------------------------------------------------------------------------------- marks */

/* The emulator's plugin learns `id` from the address of the load: 4 bytes after the symbol, plus id. */
__attribute__((naked, noinline, used, section(".text.port_handlers"))) void port_mark_start(
    uint32_t id __attribute__((unused)))
{
    __asm volatile(".syntax unified\n mov r1, pc\n ldrb r0, [r1, r0]\n bx lr\n");
}

__attribute__((naked, noinline, used, section(".text.port_handlers"))) void port_mark_stop(
    uint32_t id __attribute__((unused)))
{
    __asm volatile(".syntax unified\n mov r1, pc\n ldrb r0, [r1, r0]\n bx lr\n");
}

/* SYS_EXIT_EXTENDED with the reason ADP_Stopped_ApplicationExit. */
void port_exit(uint32_t status)
{
    uint32_t block[2] = {0x20026u, status};
    register uint32_t operation __asm("r0") = 0x20u;
    register uint32_t *parameter __asm("r1") = block;

    __asm volatile("bkpt 0xab" : "+r"(operation) : "r"(parameter) : "memory");
    for (;;) {
    }
}

void port_enable_interrupt(uint32_t number)
{
    NVIC_ISER(number / 32u) = PORT_BIT(number % 32u);
}

PORT_HANDLER void port_disable_interrupt(uint32_t number)
{
    NVIC_ICER(number / 32u) = PORT_BIT(number % 32u);
}
