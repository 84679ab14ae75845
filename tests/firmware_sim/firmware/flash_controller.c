/* Flash controllers as their manuals describe them, on a computer: what a driver does wrong is counted.
 *
 * A driver reaches registers and flash through two macros. What it wrote shows at its next access. CHIP is 1 for the
 * STM32F1, 4 for the STM32F4 and 51 for the nRF51.
 */
#define _DEFAULT_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

static volatile uint32_t *model_register(uint32_t address);
static volatile void *model_cell(uintptr_t address, uint32_t size);

#define PORT_REGISTER(address) (*model_register(address))
#define PORT_FLASH_CELL(type, address) (*(volatile type *)model_cell((address), sizeof(type)))

#include "port_flash.c"

#define BUSY_READS 3u

uint32_t violations, erases, writes;
/* Pretend that nothing happens, as where there is no controller. */
uint32_t is_dead;

static uint32_t control, status, page, keys, is_locked, data_cache = 0x705u;
static uint32_t accessed, before, slot, busy;
static uintptr_t cell;
static uint8_t cell_before[8];
static uint32_t cell_bytes;

static uint8_t *flash(void)
{
    return (uint8_t *)(uintptr_t)PORT_FLASH_BASE;
}

static void erase(uint32_t offset)
{
    if (offset % PORT_FLASH_SECTOR_BYTES != 0u || offset >= PORT_FLASH_BYTES) {
        violations++;
        return;
    }
    memset(flash() + offset, 0xFF, PORT_FLASH_SECTOR_BYTES);
    erases++;
    busy = BUSY_READS;
}

static int may_write(uint32_t size)
{
#if CHIP == 1
    return !is_locked && control == 1u && size == 2u;
#elif CHIP == 4
    return !is_locked && control == (1u | 2u << 8) && size == 4u;
#else
    return control == 1u && size == 4u;
#endif
}

static void settle_cell(void)
{
    uint8_t *now = (uint8_t *)cell;

    if (memcmp(now, cell_before, cell_bytes) != 0) {
        uint32_t is_sound = may_write(cell_bytes) && busy == 0u && !is_dead;

        for (uint32_t i = 0; i < cell_bytes; i++) {
            is_sound &= (uint32_t)(CHIP == 1 ? cell_before[i] == 0xFFu : 1);
            now[i] = is_dead ? cell_before[i] : (uint8_t)(now[i] & cell_before[i]);
        }
        violations += is_dead ? 0u : 1u - is_sound;
        writes++;
        busy = BUSY_READS;
    }
}

static void settle_register(void)
{
    const uint32_t changed = slot != before;
    const uint32_t address = accessed & 0xFFFu;

    if (!changed || is_dead) {
        return;
    }
#if CHIP == 51
    if (address == 0x504u) {
        control = slot;
    } else if (address == 0x508u) {
        violations += control != 2u;
        erase(slot - PORT_FLASH_BASE);
    } else {
        violations++;
    }
#else
    if (CHIP == 4 && address == 0xC00u) {
        data_cache = slot; /* a reset of the cache needs it off */
        violations += (slot & 0x1400u) == 0x1400u;
        return;
    }
    switch (address & 0x1Fu) {
    case 0x04u:
        keys = slot == 0x45670123u ? 1u : keys == 1u && slot == 0xCDEF89ABu ? 2u : 9u;
        violations += keys == 9u;
        is_locked = keys != 2u;
        break;
    case 0x0Cu:
        status &= ~slot;
        break;
    case 0x14u:
        page = slot - PORT_FLASH_BASE;
        break;
    default:
        violations += is_locked || busy != 0u;
        control = slot;
        if ((control & (CHIP == 1 ? 1u << 7 : 1u << 31)) != 0u) {
            is_locked = 1;
            control = 0;
        } else if (CHIP == 1 && (control & 0x42u) == 0x42u) {
            erase(page);
        } else if (CHIP == 4 && (control & 0x10002u) == 0x10002u) {
            const uint32_t sector = control >> 3 & 15u;
            violations += sector < 5u || (control >> 8 & 3u) != 2u;
            erase((sector - 4u) * PORT_FLASH_SECTOR_BYTES);
        }
        break;
    }
#endif
}

static void settle(void)
{
    if (cell_bytes != 0u) {
        settle_cell();
    } else if (accessed != 0u) {
        settle_register();
    }
    cell_bytes = 0;
    accessed = 0;
}

static uint32_t read_busy(uint32_t when_busy, uint32_t when_ready)
{
    if (busy == 0u) {
        return when_ready;
    }
    busy--;
    return when_busy;
}

static uint32_t read_register(uint32_t address)
{
    if (is_dead) {
        return CHIP == 51 && address == 0x400u ? 1u : 0u;
    }
#if CHIP == 51
    return address == 0x400u ? read_busy(0, 1) : address == 0x504u ? control : 0u;
#else
    if (CHIP == 4 && address == 0xC00u) {
        return data_cache;
    }
    switch (address & 0x1Fu) {
    case 0x0Cu:
        return status | read_busy(CHIP == 1 ? 1u : 1u << 16, 0);
    case 0x10u:
        return is_locked ? (CHIP == 1 ? 1u << 7 : 1u << 31) : control;
    default:
        return 0;
    }
#endif
}

static volatile uint32_t *model_register(uint32_t address)
{
    settle();
    accessed = address;
    before = slot = read_register(address & 0xFFFu);
    return &slot;
}

static volatile void *model_cell(uintptr_t address, uint32_t size)
{
    settle();
    cell = address;
    cell_bytes = size;
    memcpy(cell_before, (const void *)address, size);
    return (volatile void *)address;
}

/* Power on; 0 where the memory could not be placed. */
int start(void)
{
    void *place = mmap((void *)(uintptr_t)PORT_FLASH_BASE, PORT_FLASH_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    is_locked = 1;
    status = 4u; /* an error of long ago */
    return place == (void *)(uintptr_t)PORT_FLASH_BASE;
}

/* The cache is on and not being reset, the controller locked and idle. */
int is_at_rest(void)
{
    settle();
    return data_cache == 0x705u && busy == 0u && (CHIP == 51 ? control == 0u : is_locked != 0u);
}
