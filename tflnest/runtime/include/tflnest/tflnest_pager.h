/* A model with levels, and which of its pages are there: page in, page out, choose levels, run.
 *
 * The model is described by constants in flash (`tflnest_model`), what changes is a few bytes in SRAM
 * (`tflnest_pager`). A page counts as resident only once all its bytes are there and have the right CRC-32; what
 * fails changes nothing that runs: the last good level goes on.
 *
 *     static tflnest_pager pager;
 *     if (tflnest_pager_start(&pager, &model) != TFLNEST_OK) { fail(); }
 *     tflnest_pager_set_level(&pager, 4);
 *     tflnest_pager_invoke(&pager);
 */
#ifndef TFLNEST_PAGER_H
#define TFLNEST_PAGER_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TFLNEST_MODEL_MAGIC 0x4E4C4654u /* "TFLN" */
#define TFLNEST_MODEL_VERSION 2u
#define TFLNEST_MODEL_MAX_LEVELS 8u
#define TFLNEST_MODEL_IDENTITY_BYTES 32u

/* No page is being transferred. */
#define TFLNEST_PAGER_NO_PAGE 255u

/* A page. It lies in flash (`image`), or comes into a room in SRAM (`slot`), or can never be there (both NULL). Where
 * the model says so (`stored_pages`), `image` is a room in flash that the page comes into. */
typedef struct {
    const uint8_t *image; /* `size` bytes, aligned to 8, or NULL */
    uint8_t *slot;        /* `size` bytes, aligned to 8, or NULL */
    uint32_t size;        /* bytes, a multiple of 8; 0 for a page without content, which is always there */
    uint32_t crc32;       /* of its bytes */
} tflnest_page;

/* How pages come into flash. tflnest_sectors.h has the functions; they get `context`. */
typedef struct {
    const void *context;
    /* Whether bytes of a page can be written from `offset` on, when the sectors behind it have been erased. */
    int (*accepts)(const void *context, const tflnest_page *page, uint32_t offset);
    /* Erase what is not, from the first sector that begins at or behind `offset`. */
    tflnest_status (*erase)(const void *context, const tflnest_page *page, uint32_t offset);
    /* Program bytes where everything is erased; offset and count are multiples of 8. */
    tflnest_status (*program)(const void *context, const tflnest_page *page, uint32_t offset, const uint8_t *bytes,
                              uint32_t count);
    /* Bytes of a page that lie in sectors which were filled before the power went; 0 where there are none. */
    uint32_t (*find)(const void *context, const tflnest_page *page);
    /* Mark a page, so that it does not count any more, whatever lies there; and whether it is marked. */
    tflnest_status (*drop)(const void *context, const tflnest_page *page);
    int (*is_dropped)(const void *context, const tflnest_page *page);
} tflnest_page_store;

/* An operator with levels of its own. */
typedef struct {
    const uint8_t *levels;       /* `level_count` bit-widths, increasing, 1 to 8 */
    const uint8_t *pages;        /* for each of them the page that completes it */
    const uint8_t *model_levels; /* for each level of the model the position in `levels` that it runs */
    uint16_t index;              /* among the operators of the model */
    uint8_t level_count;         /* 1 to TFLNEST_MODEL_MAX_LEVELS */
} tflnest_model_operator;

/* An input or output. */
typedef struct {
    void *data;     /* in SRAM */
    uint32_t bytes; /* 1 or more */
} tflnest_tensor;

/* A model. All of it is constant; generated code defines it. */
typedef struct {
    uint32_t magic;          /* TFLNEST_MODEL_MAGIC */
    uint16_t version;        /* TFLNEST_MODEL_VERSION */
    uint8_t level_count;     /* 1 to TFLNEST_MODEL_MAX_LEVELS; as many pages */
    uint8_t stored_pages;    /* one bit per page that comes into flash, page 0 in bit 0 */
    uint16_t operator_count; /* operators with levels */
    uint16_t input_count;
    uint16_t output_count;
    uint8_t identity[TFLNEST_MODEL_IDENTITY_BYTES]; /* FORMAT.md, section 8.6 */
    const uint8_t *levels;                          /* bit-widths, increasing, 1 to 8 */
    const tflnest_page *pages;
    const tflnest_page_store *store; /* NULL where no page comes into flash */
    const tflnest_model_operator *operators;
    const tflnest_tensor *inputs;
    const tflnest_tensor *outputs;
    uint8_t *positions; /* in SRAM, `operator_count` bytes: the position of the level that each operator runs */

    /* Run all operators on what lies in the inputs; `positions` as above. Inputs may be overwritten. */
    void (*invoke)(const uint8_t *positions);
} tflnest_model;

/* What changes. Only for the functions below. */
typedef struct {
    const tflnest_model *model; /* NULL until the start has succeeded */
    uint32_t offset;            /* bytes of the page in transfer that are there */
    uint8_t resident;           /* one bit per page, page 0 in bit 0 */
    uint8_t needed;             /* the pages that the present levels read; 0 until the base page is there */
    uint8_t level;              /* position of the level of the whole model */
    uint8_t is_mixed;           /* 1: operators were given levels of their own */
    uint8_t page;               /* in transfer, or TFLNEST_PAGER_NO_PAGE */
    uint8_t is_erased;          /* 1: the room in flash of the page in transfer is ready to be programmed */
} tflnest_pager;

/* Check the model and the bytes of its pages, and choose the highest level whose pages are there.
 *
 * Pages in slots and in flash count too where their CRC-32 matches: they have survived a reset. Where the base page
 * is yet to come, no level can run until it is there.
 *
 * TFLNEST_ERROR_ARGUMENT: wrong magic or version, or a description that contradicts itself.
 * TFLNEST_ERROR_SIZE:     the size of a page is no multiple of 8.
 * TFLNEST_ERROR_CRC:      the base page is damaged and cannot come; nothing can run. A damaged page above it is not
 *                         resident.
 */
tflnest_status tflnest_pager_start(tflnest_pager *pager, const tflnest_model *model);

/* The pages that are resident, one bit each, page 0 in bit 0. */
uint32_t tflnest_pager_resident(const tflnest_pager *pager);

/* The bits of the level that the whole model runs at; 0 where operators were given levels of their own, or where the
 * base page is missing. */
uint32_t tflnest_pager_level(const tflnest_pager *pager);

/* The bits that an operator with levels runs at; 0 where there is no such row. */
uint32_t tflnest_pager_operator_level(const tflnest_pager *pager, uint32_t row);

/* Begin to transfer a page into its room. A transfer that was going on is given up. From offset 0, a room in flash is
 * erased at once, while no data is on its way.
 *
 * identity  of the model that the page belongs to, TFLNEST_MODEL_IDENTITY_BYTES.
 * size      of the page in bytes.
 * offset    bytes of the room that are right already, from a transfer before; mostly 0.
 *
 * TFLNEST_ERROR_IDENTITY: it belongs to another model.
 * TFLNEST_ERROR_PAGE:     there is no such page, or no room for it.
 * TFLNEST_ERROR_SIZE:     it has another size, or the offset lies beyond its end.
 * TFLNEST_ERROR_IN_USE:   it is resident: page it out first.
 * TFLNEST_ERROR_ARGUMENT: in flash, bytes cannot follow this offset without erasing what is before it.
 * TFLNEST_ERROR_FLASH:    the room in flash could not be erased.
 */
tflnest_status tflnest_pager_begin(tflnest_pager *pager, const uint8_t *identity, uint32_t page, uint32_t size,
                                   uint32_t offset);

/* Write the next bytes of the page in transfer.
 *
 * TFLNEST_ERROR_PAGE:     this page is not in transfer.
 * TFLNEST_ERROR_ARGUMENT: the offset is not the number of bytes that are there (`tflnest_pager_offset`).
 * TFLNEST_ERROR_SIZE:     there are more bytes than the page has.
 * TFLNEST_ERROR_FLASH:    the flash did not take them; the transfer must begin anew.
 */
tflnest_status tflnest_pager_write(tflnest_pager *pager, uint32_t page, uint32_t offset, const uint8_t *bytes,
                                   uint32_t count);

/* Bytes of the page in transfer that are there: the offset of the next write. 0 where there is no transfer. */
uint32_t tflnest_pager_offset(const tflnest_pager *pager);

/* Bytes of a page that is not resident which lie in flash from a transfer before the power went: the offset for
 * `tflnest_pager_begin`. Whether they are right only their CRC-32 tells. 0 where there are none. */
uint32_t tflnest_pager_found(const tflnest_pager *pager, uint32_t page);

/* Bytes of SRAM in slots whose pages are neither resident nor in transfer. */
uint32_t tflnest_pager_unused_bytes(const tflnest_pager *pager);

/* End the transfer: the page becomes resident. The level stays as it is, unless there was none.
 *
 * TFLNEST_ERROR_PAGE: this page is not in transfer.
 * TFLNEST_ERROR_SIZE: bytes are missing; the transfer goes on.
 * TFLNEST_ERROR_CRC:  the bytes are damaged; the transfer is given up.
 */
tflnest_status tflnest_pager_complete(tflnest_pager *pager, uint32_t page);

/* Give up a page that came, or its transfer. It does not come back with a reset.
 *
 * TFLNEST_ERROR_PAGE:     there is no such page, or it is a constant in flash.
 * TFLNEST_ERROR_IN_USE:   the present level needs it.
 * TFLNEST_ERROR_RESIDENT: it is neither resident nor in transfer.
 * TFLNEST_ERROR_FLASH:    it could not be spoiled, and may come back.
 */
tflnest_status tflnest_pager_evict(tflnest_pager *pager, uint32_t page);

/* Compute the CRC-32 of a resident page anew.
 *
 * TFLNEST_ERROR_PAGE:     there is no such page.
 * TFLNEST_ERROR_RESIDENT: it is not resident.
 * TFLNEST_ERROR_CRC:      it is damaged.
 */
tflnest_status tflnest_pager_verify(const tflnest_pager *pager, uint32_t page);

/* Choose the level of the whole model, in bits.
 *
 * TFLNEST_ERROR_LEVEL:    there is no such level.
 * TFLNEST_ERROR_RESIDENT: a page that it needs is not resident.
 */
tflnest_status tflnest_pager_set_level(tflnest_pager *pager, uint32_t level);

/* Choose the level of one operator, in bits; the others keep theirs.
 *
 * TFLNEST_ERROR_ARGUMENT: there is no such row.
 * TFLNEST_ERROR_LEVEL:    the operator has no such level.
 * TFLNEST_ERROR_RESIDENT: a page that it needs is not resident.
 */
tflnest_status tflnest_pager_set_operator_level(tflnest_pager *pager, uint32_t row, uint32_t level);

/* Run the model on what lies in its inputs, which may be overwritten.
 *
 * TFLNEST_ERROR_ARGUMENT: the start has not succeeded.
 * TFLNEST_ERROR_RESIDENT: the base page is not there.
 */
tflnest_status tflnest_pager_invoke(tflnest_pager *pager);

#ifdef __cplusplus
}
#endif

#endif
