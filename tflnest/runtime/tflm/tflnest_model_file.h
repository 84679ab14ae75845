/* What is looked up in the flatbuffer of a model, without a parser.
 *
 * The bytes may be anything: every offset and length is compared with their number before it is followed, and
 * nothing is allocated.
 */
#ifndef TFLNEST_MODEL_FILE_H
#define TFLNEST_MODEL_FILE_H

#include <stddef.h>
#include <stdint.h>

/* The content of a metadata entry.
 *
 * size  Bytes of the file, less than 2^31.
 * name  Of the entry.
 * bytes Filled: of the content.
 *
 * Returns NULL where the file is no model, or has no such entry.
 */
const uint8_t *tflnest_model_metadata(const uint8_t *file, size_t size, const char *name, uint32_t *bytes);

/* Number of tensors in the subgraph of the operator whose custom options lie at an address; 0 where none does. */
uint32_t tflnest_model_tensors_beside(const uint8_t *file, size_t size, const void *custom_options);

/* Find the tensors that are alive while the operator runs whose custom options lie at an address: its outputs, and what
 * was made before and is read by it or later.
 *
 * tensors Filled: their indices.
 * limit   Most of them.
 *
 * Returns how many there are; 0 where there are more, or the file does not tell.
 */
uint32_t tflnest_model_alive(const uint8_t *file, size_t size, const void *custom_options, uint32_t *tensors,
                             uint32_t limit);

#endif
