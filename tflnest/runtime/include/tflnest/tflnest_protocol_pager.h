/* Functions of a `tflnest_protocol_model` that page and run a model with a `tflnest_pager`.
 *
 * `context` of that model is the pager, which was started. Only `free_sram` is left to the caller, since it depends on
 * the board: what nothing uses, and `tflnest_pager_unused_bytes`. See tflnest_protocol.h for what each function does.
 */
#ifndef TFLNEST_PROTOCOL_PAGER_H
#define TFLNEST_PROTOCOL_PAGER_H

#include "tflnest/tflnest_pager.h"

#ifdef __cplusplus
extern "C" {
#endif

uint32_t tflnest_protocol_pager_resident(void *context);
uint32_t tflnest_protocol_pager_level(void *context);
uint32_t tflnest_protocol_pager_operator_level(void *context, uint32_t row);
tflnest_status tflnest_protocol_pager_page_begin(void *context, uint32_t page, uint32_t offset);
tflnest_status tflnest_protocol_pager_page_write(void *context, uint32_t page, uint32_t offset, const uint8_t *bytes,
                                                 uint32_t count);
tflnest_status tflnest_protocol_pager_page_end(void *context, uint32_t page, uint32_t crc32);
tflnest_status tflnest_protocol_pager_page_out(void *context, uint32_t page);
const uint8_t *tflnest_protocol_pager_page_image(void *context, uint32_t page);
uint32_t tflnest_protocol_pager_page_found(void *context, uint32_t page);
tflnest_status tflnest_protocol_pager_set_level(void *context, uint32_t level);
tflnest_status tflnest_protocol_pager_set_operator_level(void *context, uint32_t row, uint32_t level);
tflnest_status tflnest_protocol_pager_invoke(void *context);

#ifdef __cplusplus
}
#endif

#endif
